"""Files of credentials: zot's, docker's config.json, podman's auth.json, kubernetes' .dockerconfigjson."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.upstream.errors import CredentialsInvalid
from tasks.upstream.login.credential_helpers import ask_helper
from tasks.upstream.login.credentials import Credential

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_MAX_FILE = 8 * 1024 * 1024  # bytes
# One registry, by all the names that docker and podman write into their files.
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """One file. `auths`: by `host[:port]` or `host[:port]/namespace`."""

    name: str
    auths: Mapping[str, Credential] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""

    def find(self, registry: str, repository: str, environ: Mapping[str, str]) -> Credential | None:
        """credHelpers before credsStore before auths; the longest namespace wins (containers-auth.json)."""
        registry = normal_key(registry)
        key = _DOCKER_HUB_KEY if registry == "docker.io" else registry
        if (helper := self.helpers.get(registry)) is not None:
            return ask_helper(helper, key, environ, where=f"{self.name}: credHelpers")
        if self.store:
            stored = ask_helper(self.store, key, environ, where=f"{self.name}: credsStore", needed=False)
            if stored is not None:
                return stored
        found = (self.auths.get(name) for name in _namespaces(registry, repository))
        return next((each for each in found if each is not None), None)


def _namespaces(registry: str, repository: str) -> Iterator[str]:
    parts = [registry, *filter(None, repository.split("/"))]
    for length in range(len(parts), 0, -1):
        yield "/".join(parts[:length])


def normal_key(key: str) -> str:
    """`https://index.docker.io/v1/` -> `docker.io`; a path without a scheme is a namespace and stays."""
    scheme, separator, rest = key.strip().partition("://")
    host, _, path = (rest if separator else scheme).partition("/")
    host = host.lower().removesuffix(":443")
    host = "docker.io" if host in _DOCKER_HUB else host
    path = path.strip("/")
    return host if separator or path in ("", "v1", "v2") else f"{host}/{path}"


def read_credentials(path: Path, key: str = "") -> CredentialFile:
    """`key`: what of the profile names the file. Raises `CredentialsInvalid`, which shows no content."""
    name = f"{key}: {path}" if key else str(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise CredentialsInvalid(f"{name} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE:
        raise CredentialsInvalid(f"{name} is larger than {_MAX_FILE} bytes; check that it is the right file")
    return parse_credentials(content, name)


def parse_credentials(content: str | bytes, name: str) -> CredentialFile:
    """Raises `CredentialsInvalid`, which shows no content."""
    try:
        document = json.loads(content)
    except json.JSONDecodeError as error:
        raise CredentialsInvalid(
            f"{name} is not JSON: {error.msg}, line {error.lineno} column {error.colno}"
        ) from None  # the error carries the whole document
    except (ValueError, RecursionError):
        raise CredentialsInvalid(f"{name} is not JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise CredentialsInvalid(
            f'{name} is not a JSON object; write {{"HOST[:PORT]": {{"username", "password"}}}}'
        )
    if not document.keys() & {"auths", "credHelpers", "credsStore"} and not _is_flat(document):
        return CredentialFile(name)  # a config.json that holds only settings
    auths = document.get("auths", {} if not _is_flat(document) else document)
    return CredentialFile(
        name,
        auths=_auths(auths, name),
        helpers={
            normal_key(host): helper for host, helper in _texts(document.get("credHelpers"), name).items()
        },
        store=_text(document.get("credsStore"), f"{name}: credsStore"),
    )


def _is_flat(document: Mapping[str, Any]) -> bool:
    """zot's credentialsFile and the old ~/.dockercfg: hosts on the top level."""
    fields = {"username", "password", "auth", "identitytoken", "registrytoken"}
    return "auths" not in document and all(
        isinstance(entry, dict) and entry.keys() & fields for entry in document.values()
    )


def _auths(found: Any, name: str) -> dict[str, Credential]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise CredentialsInvalid(f"{name}: `auths` is not an object")
    pairs = ((normal_key(key), _credential(entry, f"{name}: {key}")) for key, entry in found.items())
    return {key: credential for key, credential in pairs if credential is not None}


def _credential(entry: Any, where: str) -> Credential | None:
    """None for the empty entries that docker leaves beside a credsStore."""
    if not isinstance(entry, dict):
        raise CredentialsInvalid(f'{where}: expected {{"username": …, "password": …}}')
    text = {key: _text(entry.get(key), f"{where}: {key}") for key in entry if key != "email"}
    username, password = text.get("username", ""), text.get("password", "")
    if text.get("auth"):
        username, password = _decoded(text["auth"], where)
    found = Credential(
        username, password, text.get("identitytoken", ""), text.get("registrytoken", ""), source=where
    )
    return found if found != Credential() else None


def _decoded(auth: str, where: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, ValueError):
        raise CredentialsInvalid(f"{where}: `auth` is not base64 of user:password") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise CredentialsInvalid(f"{where}: `auth` is not base64 of user:password")
    return username, password.strip("\0")  # old docker versions padded it


def _texts(found: Any, name: str) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise CredentialsInvalid(f"{name}: `credHelpers` is not an object of texts")
    return found


def _text(found: Any, where: str) -> str:
    if found is None:
        return ""
    if not isinstance(found, str):
        raise CredentialsInvalid(f"{where} is not a text")
    return found
