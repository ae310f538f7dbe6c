"""TLS towards an upstream: whom to trust, and who we are."""

from __future__ import annotations

import os
import ssl
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import httpx

from tasks.upstream.errors import CertificatesInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def standard_dirs(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where containers, docker and containerd keep certificates, a folder for each `host:port` in it."""
    config = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    return (
        config / "containers/certs.d",
        Path("/etc/containers/certs.d"),
        Path("/etc/docker/certs.d"),
        config / "docker/certs.d",
        Path("/etc/containerd/certs.d"),
    )


class Contexts:
    """SSL contexts for hosts, each made once: loading the system's CAs takes some 10 ms. Thread-safe."""

    def __init__(
        self,
        cert_dir: Path | None,
        *,
        verify: bool,
        hosts: Iterable[str] = (),
        standard: Sequence[Path] = (),
    ) -> None:
        """`hosts`: those of the entry's `urls`. Only they see the client certificate of `cert_dir` itself;
        another host, as that of a layer or a redirect, only one of the folder with its name in `cert_dir`.

        Raises `CertificatesInvalid` for what is wrong in `cert_dir`.
        """
        self._verify = verify
        self._hosts = frozenset(map(_netloc, hosts))
        self._standard = standard
        self._lock = Lock()
        self._by_folder: dict[tuple[Path | None, bool], ssl.SSLContext] = {}
        self._by_host: dict[str, ssl.SSLContext] = {}
        self._cert_dir = cert_dir
        if cert_dir is not None and not cert_dir.is_dir():
            raise CertificatesInvalid(f"certDir: there is no folder {cert_dir}; create it, or remove certDir")

    def for_host(self, host: str) -> ssl.SSLContext:
        """`host` with its port, if it is not the usual one. Raises `CertificatesInvalid`."""
        with self._lock:
            if host not in self._by_host:
                folder = self._folder(host)
                own = folder != self._cert_dir or _netloc(host) in self._hosts
                if (folder, own) not in self._by_folder:
                    self._by_folder[folder, own] = make_context(folder, verify=self._verify, own=own)
                self._by_host[host] = self._by_folder[folder, own]
            return self._by_host[host]

    def _folder(self, host: str) -> Path | None:
        names = _spellings(host)
        if self._cert_dir is not None:
            return next(filter(_is_folder, (self._cert_dir / name for name in names)), self._cert_dir)
        candidates = (base / name for base in self._standard for name in names)
        return next(filter(_is_folder, candidates), None)


@cache
def trusting_nobody() -> ssl.SSLContext:
    """For hosts of plain http, which need none: loading the system's CAs for them would be a waste."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _netloc(host: str) -> str:
    """As URLs of requests spell it: in lower case, without the usual port."""
    return httpx.URL(f"https://{host}").netloc.decode()


def _spellings(host: str) -> tuple[str, ...]:
    """containerd writes `host_5000_` where a file system does not like colons."""
    name, colon, port = host.rpartition(":")
    return (host, f"{name}_{port}_") if colon and port.isdecimal() else (host,)


def _is_folder(path: Path) -> bool:
    """Of the standard folders only those that we may look into: others belong to somebody else."""
    return path.is_dir() and os.access(path, os.R_OK | os.X_OK)


def make_context(folder: Path | None, *, verify: bool = True, own: bool = True) -> ssl.SSLContext:
    """The system's CAs, those of `folder`, and with `own` its client pair. Raises `CertificatesInvalid`."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if folder is not None:
        _load(context, folder, own=own)
    return context


def _load(context: ssl.SSLContext, folder: Path, *, own: bool) -> None:
    try:
        names = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise CertificatesInvalid(f"certDir: {folder} cannot be read: {error.strerror}") from error
    for path in names:
        if path.suffix == ".crt":
            _load_authority(context, path)
    for certificate, key in _pairs(names, folder) if own else ():
        _load_pair(context, certificate, key)


def _load_authority(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise CertificatesInvalid(
            f"certDir: {path} is not a readable CA certificate in PEM ({error})"
        ) from error


def _pairs(names: Sequence[Path], folder: Path) -> list[tuple[Path, Path]]:
    """By their stems; a lone certificate and a lone key belong together, as zot has it."""
    certificates = {path.stem: path for path in names if path.suffix == ".cert"}
    keys = {path.stem: path for path in names if path.suffix == ".key"}
    if len(certificates) == len(keys) == 1:
        return list(zip(certificates.values(), keys.values(), strict=True))
    for lone in sorted(certificates.keys() ^ keys.keys()):
        have, lack = (".cert", ".key") if lone in certificates else (".key", ".cert")
        raise CertificatesInvalid(f"certDir: {folder} has {lone}{have}, but no {lone}{lack}; add it")
    return [(certificates[stem], keys[stem]) for stem in sorted(certificates)]


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise CertificatesInvalid(
            f"certDir: {certificate.name} and {key.name} in {certificate.parent} are not a readable "
            f"certificate in PEM and its key without a password ({error})"
        ) from error


def _no_password() -> str:
    """Instead of OpenSSL asking for one on the terminal."""
    return ""
