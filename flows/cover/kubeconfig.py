"""How to reach a Kubernetes API: a kubeconfig file as kubectl reads it, or the service account of a pod.

https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IN_CLUSTER: Final = "in-cluster"
"""In place of a file: the service account of the pod that this runs in."""
_VARIABLE: Final = "KUBECONFIG"
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MOST_BYTES: Final = 2**20
_NAME: Final = re.compile(r"(?:[\w-]{1,63}(?:\.[\w-]{1,63})*\.?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+)?", re.ASCII)
_INSTEAD: Final = (
    "give the objects instead: kubectl get pods -A -o json | mirrorflow cover PROFILE --manifests -"
)


class KubeconfigUnusable(MirrorflowError):
    """The file is not there, or does not say how to reach a cluster."""


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A program that gives the credentials (client.authentication.k8s.io)."""

    command: str
    arguments: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    api_version: str = ""
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """`server` is a URL; PEM texts in `authority`, `certificate` and `key`, "" for none. Shows no secret.

    `name` is what messages call the cluster.
    """

    name: str
    server: str
    authority: str = ""
    verify: bool = True
    server_name: str = ""
    proxy: str = ""
    token: str = ""
    token_file: Path | None = None
    user: str = ""
    password: str = ""
    certificate: str = ""
    key: str = ""
    plugin: ExecPlugin | None = None

    def __repr__(self) -> str:
        return f"ClusterAccess({self.name!r}, {self.server!r})"

    def bearer(self) -> str:
        """The token, read from its file each time: a service account's is renewed there.

        Raises `KubeconfigUnusable`: what refuses a header with a line break would show it.
        """
        token = self.token if self.token_file is None else _file(self.token_file, "tokenFile").strip()
        if not (token.isascii() and token.isprintable()):
            raise KubeconfigUnusable(
                f"the token of {self.name!r} has a character that no token has; log in again"
            )
        return token


def find_access(
    given: str | None, context: str | None = None, *, environment: Mapping[str, str] = os.environ
) -> ClusterAccess:
    """`given`: a file, `in-cluster`, or None for what kubectl would take. Raises `KubeconfigUnusable`."""
    if given == IN_CLUSTER:
        return _of_service_account(environment)
    paths = [Path(given)] if given else _default_paths(environment)
    present = [path for path in paths if path.is_file()]
    if not present:
        names = ", ".join(map(str, paths))
        raise KubeconfigUnusable(
            f"there is no kubeconfig at {names}; name one with --kubeconfig, or give --manifests, --chart or "
            "--images"
        )
    return _of_files(present, context)


def _default_paths(environment: Mapping[str, str]) -> list[Path]:
    named = [Path(each) for each in environment.get(_VARIABLE, "").split(os.pathsep) if each]
    return named or [Path.home() / ".kube" / "config"]


def _of_files(paths: Sequence[Path], context: str | None) -> ClusterAccess:
    """Of several files the first that names a cluster, a user or a context counts, as with kubectl."""
    documents = [(path, _document(path)) for path in paths]
    current = next((str(each["current-context"]) for _, each in documents if each.get("current-context")), "")
    name = context or current
    where = ", ".join(map(str, paths))
    if not name:
        raise KubeconfigUnusable(f"{where}: has no current-context; say which with --context")
    _, chosen = _named(documents, "contexts", "context", name, where)
    at, cluster = _named(documents, "clusters", "cluster", str(chosen.get("cluster", "")), where)
    user_at, user = at, dict[str, Any]()
    if chosen.get("user"):
        user_at, user = _named(documents, "users", "user", str(chosen["user"]), where)
    return _access(name, _Section(at, cluster), _Section(user_at, user))


def _named(
    documents: Sequence[tuple[Path, dict[str, Any]]], plural: str, singular: str, name: str, where: str
) -> tuple[Path, dict[str, Any]]:
    for path, document in documents:
        for each in _mappings(document.get(plural)):
            if each.get("name") == name and isinstance(each.get(singular), dict):
                return path, each[singular]
    known = sorted(
        str(each.get("name")) for _, document in documents for each in _mappings(document.get(plural))
    )
    raise KubeconfigUnusable(f"{where}: has no {singular} {name!r}; it has: {', '.join(known) or 'none'}")


def _mappings(found: Any) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


@dataclass(frozen=True, slots=True)
class _Section:
    """A cluster or a user; paths in it begin at the folder of its file."""

    file: Path
    keys: dict[str, Any]

    def text(self, key: str) -> str:
        value = self.keys.get(key)
        return value.strip() if isinstance(value, str) else ""

    def pem(self, key: str) -> str:
        """Of `key-data` (base64), else of the file that `key` names."""
        if data := self.text(f"{key}-data"):
            try:
                return base64.b64decode(data, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError) as error:
                raise KubeconfigUnusable(f"{self.file}: {key}-data is not base64 of PEM") from error
        path = self.text(key)
        return _file(self.file.parent / path, key) if path else ""


def _access(name: str, cluster: _Section, user: _Section) -> ClusterAccess:
    server = cluster.text("server").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise KubeconfigUnusable(
            f"{cluster.file}: the cluster of {name!r} has no server; write https://HOST:PORT"
        )
    if user.keys.get("auth-provider"):
        raise KubeconfigUnusable(f"{user.file}: auth-provider is gone from Kubernetes since 1.26; {_INSTEAD}")
    if not _NAME.fullmatch(server_name := cluster.text("tls-server-name")):
        raise KubeconfigUnusable(f"{cluster.file}: tls-server-name of {name!r} is no name of a host")
    token_file = user.text("tokenFile")
    return ClusterAccess(
        name,
        server,
        authority=cluster.pem("certificate-authority"),
        verify=cluster.keys.get("insecure-skip-tls-verify") is not True,
        server_name=server_name,
        proxy=cluster.text("proxy-url"),
        token=user.text("token"),
        token_file=user.file.parent / token_file if token_file and not user.text("token") else None,
        user=user.text("username"),
        password=user.text("password"),
        certificate=user.pem("client-certificate"),
        key=user.pem("client-key"),
        plugin=_plugin(user),
    )


def _plugin(user: _Section) -> ExecPlugin | None:
    found = user.keys.get("exec")
    if not isinstance(found, dict):
        return None
    command = str(found.get("command") or "")
    if not command:
        raise KubeconfigUnusable(f"{user.file}: exec has no command")
    arguments, variables = found.get("args"), _mappings(found.get("env"))
    return ExecPlugin(
        command,
        tuple(map(str, arguments)) if isinstance(arguments, list) else (),
        tuple((str(each.get("name")), str(each.get("value"))) for each in variables),
        str(found.get("apiVersion") or ""),
        user.file.absolute().parent,
    )


def _of_service_account(environment: Mapping[str, str]) -> ClusterAccess:
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (_ACCOUNT / "token").is_file():
        raise KubeconfigUnusable(
            f"--kubeconfig {IN_CLUSTER}: this is no pod with a service account; name a kubeconfig file"
        )
    name = f"[{host}]" if ":" in host else host
    return ClusterAccess(
        IN_CLUSTER,
        f"https://{name}:{port}",
        authority=_file(_ACCOUNT / "ca.crt", "ca.crt"),
        token_file=_ACCOUNT / "token",
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(_file(path, "kubeconfig"))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # What the parser says quotes the line, which may hold a token.
        raise KubeconfigUnusable(f"{path}: is not YAML (not quoted here: it may hold a password)") from error
    if not isinstance(document, dict):
        raise KubeconfigUnusable(f"{path}: is no kubeconfig")
    return document


def _file(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode()
    except OSError as error:
        raise KubeconfigUnusable(f"{what}: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KubeconfigUnusable(f"{what}: {path} is not text") from error
    except ValueError as error:  # a NUL
        raise KubeconfigUnusable(f"{what}: {str(path)!r} is no path") from error
