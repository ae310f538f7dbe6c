"""From a profile to what one kind of client is given."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from flows.client_config import buildkit, containerd, docker, k3s, podman
from flows.client_config.model import Mirror
from flows.client_config.routes import upstream_hosts
from flows.receiver.call_options import is_wanted
from profiles.server_options import server_options
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from flows.client_config.model import ClientConfig
    from flows.client_config.routes import UpstreamHost
    from profiles.model.profile import Profile

    Maker = Callable[[Mirror, Sequence[UpstreamHost]], ClientConfig]

KINDS: dict[str, Maker] = {
    "containerd": containerd.setup,
    "docker": docker.setup,
    "podman": podman.setup,
    "cri-o": podman.cri_o,
    "buildkit": buildkit.setup,
    "k3s": k3s.setup,
}
_ADDRESS = re.compile(r"(?:(https?)://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?", re.ASCII)
_EVERYWHERE = frozenset({"0.0.0.0", "::", "[::]"})  # noqa: S104 - compared, not listened on
_USUAL_PORT = {"http": 80, "https": 443}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)


class AddressUnusable(MirrorflowError):
    """Nobody knows how clients reach the server."""


class NothingMirrored(MirrorflowError):
    """No registry entry brings anything."""


class AuthorityUnusable(MirrorflowError):
    """The file of the CA cannot be read, or has no certificate in it."""


def mirror_of(
    profile: Profile, *, address: str = "", authority: Path | None = None, fallback: bool = True
) -> Mirror:
    """`address`: how clients reach the server, `HOST[:PORT]` or a URL; `authority`: a PEM file.

    Raises `AddressUnusable`, `AuthorityUnusable`.
    """
    http = profile.http
    scheme, host = _reached(profile, address)
    access = server_options(profile).access
    return Mirror(
        scheme,
        host,
        authority=_certificates(authority) if authority is not None else "",
        wants_certificate=http.tls is not None and http.tls.cacert is not None,
        wants_login=access is not None and access.htpasswd is not None and not access.policy.has_anonymous,
        names_upstream=is_wanted(profile),
        fallback=fallback,
        hub_host=_hub_host(profile, host) if is_wanted(profile) else "",
    )


def make(kind: str, profile: Profile, mirror: Mirror) -> ClientConfig:
    """`kind` is one of `KINDS`. Raises `NothingMirrored`."""
    hosts = upstream_hosts(profile.sync)
    if not hosts:
        raise NothingMirrored(
            "the profile mirrors nothing, so there is nothing to tell a client: add a registry entry with "
            "content rules or `onDemand`, and no `sync.enable: false`"
        )
    return KINDS[kind](mirror, hosts)


def warnings(profile: Profile, mirror: Mirror, *, address: str = "") -> Iterator[str]:
    """What makes the files less than they seem, in sentences."""
    if not address and not profile.http.external_url and profile.http.address in _EVERYWHERE:
        yield f"the server listens on every address; {mirror.host} is a guess: say --address as clients do"
    rules = profile.verify.rules if profile.verify is not None else ()
    if mirror.fallback and any(rule.mode == "enforce" for rule in rules):
        yield (
            "a client goes on to the upstream registry when the mirror refuses an image, so `verify` does "
            "not keep it out; with --no-fallback it stays with the mirror"
        )


def _reached(profile: Profile, address: str) -> tuple[str, str]:
    http = profile.http
    scheme = "http" if http.tls is None else "https"
    given = address or http.external_url
    if not given:
        if not http.port:
            raise AddressUnusable("http.port is 0, any free port: say --address HOST:PORT as clients see it")
        name = socket.gethostname() if http.address in _EVERYWHERE else http.address
        given = f"[{name}]:{http.port}" if ":" in name else f"{name}:{http.port}"
    match = _ADDRESS.fullmatch(given)
    if match is None:
        raise AddressUnusable(f"{given!r} is not an address: write HOST, HOST:PORT, or the URL of either")
    scheme = match[1] or scheme
    port = match[3] or ""
    return scheme, match[2] if port == f":{_USUAL_PORT[scheme]}" else f"{match[2]}{port}"


def _hub_host(profile: Profile, host: str) -> str:
    """The host that stands for Docker Hub, on the port of `host`."""
    hub = {entry.name for entry in profile.sync.registries if entry.urls[0].is_docker_hub}
    port = match[3] or "" if (match := _ADDRESS.fullmatch(host)) else ""
    return next((f"{name}{port}" for name, entry in profile.http.vhosts.items() if entry in hub), "")


def _certificates(path: Path) -> str:
    try:
        found = _CERTIFICATE.findall(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise AuthorityUnusable(f"--ca: {path} cannot be read: {error}") from error
    if not found:
        raise AuthorityUnusable(f"--ca: {path} has no certificate in it; it must be PEM, of the CA")
    return "".join(f"{each.strip()}\n" for each in found)
