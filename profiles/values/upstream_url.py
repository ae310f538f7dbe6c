"""Where an upstream registry is: `https://registry1:5000`, `quay.io`, `https://docker.io/library`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from profiles.errors import Refusal
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName

# Docker Hub answers under all of these names, and serves the API under the second only.
_DOCKER_HUB = {"docker.io", "registry-1.docker.io", "index.docker.io", "registry.hub.docker.com"}
_DOCKER_API = "registry-1.docker.io"
_DOCKER_WEBSITE = "hub.docker.com"
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\.?|\[[0-9a-f:.]+\]", re.ASCII)
_API_PATH = re.compile(r"[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*", re.ASCII)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HELM = "helm+"
_EXAMPLE = "write e.g. 'https://registry.example:5000' or 'http://127.0.0.1:5000'"


Kind = Literal["registry", "helm"]


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """`host` (with the port where one is given) is where requests go, `registry` whom credentials are for.

    `path_prefix` stands before every repository name (`library` of `https://docker.io/library`, else "").
    `api_path` stands before `/v2/` (`artifactory/api/docker/x` of `https://host/artifactory/api/docker/x/v2`).
    Of a Helm repository (`helm+https://host/charts`, as the command `helm repo add` has it) it is the path.
    """

    scheme: str
    host: str
    registry: str
    path_prefix: str = ""
    api_path: str = ""
    kind: Kind = "registry"
    scheme_assumed: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, text: object) -> UpstreamUrl:
        """Without a scheme it is https, also for localhost. Raises `Refusal`, which shows no password."""
        if isinstance(text, UpstreamUrl):
            return text
        if not isinstance(text, str) or not text.strip():
            raise Refusal("not a URL", _EXAMPLE)
        if text.strip().lower().startswith(_HELM):
            return _helm_repository(text.strip()[len(_HELM) :])
        parts = _split(text.strip())
        scheme, host = parts.scheme.lower(), _host(parts)
        if host == _DOCKER_WEBSITE:
            raise Refusal(
                f"{host} is the web site of Docker Hub, and no registry", "write 'https://docker.io'"
            )
        api_path, path = _split_path(parts.path)
        hub = host in _DOCKER_HUB
        return cls(
            scheme,
            _DOCKER_API if hub else host,
            "docker.io" if hub else host,
            path,
            api_path,
            scheme_assumed=not _SCHEME.match(text.strip()),
        )

    @property
    def base(self) -> str:
        """Where the API is, without `/v2/`: `https://registry-1.docker.io`."""
        return f"{self.scheme}://{self.host}" + (f"/{self.api_path}" if self.api_path else "")

    @property
    def is_docker_hub(self) -> bool:
        return self.registry == "docker.io"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, where registries mostly speak plain http."""
        name = self.host.rpartition(":")[0] if not self.host.endswith("]") else self.host
        name = (name or self.host).strip("[]")
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def repository(self, name: str) -> str:
        """What the registry itself calls `name`: with the prefix, and `library/` for Docker's own images.

        On Docker Hub a name has exactly two parts, so there the prefix is put on once, however often this
        is asked: `library/alpine` stays as it is.
        """
        if not self.is_docker_hub:
            return f"{self.path_prefix}/{name}" if self.path_prefix else name
        prefix = self.path_prefix or ("" if "/" in name else "library")
        return name if not prefix or name.startswith(f"{prefix}/") else f"{prefix}/{name}"

    def __str__(self) -> str:
        if self.kind == "helm":
            return f"{_HELM}{self.base}"
        host = self.registry if self.is_docker_hub else self.host
        said = self.api_path or "v2" in self.path_prefix.split("/")
        api = (self.api_path, "v2") if said else ()
        return "/".join(filter(None, (f"{self.scheme}://{host}", *api, self.path_prefix)))


def _helm_repository(text: str) -> UpstreamUrl:
    """Its path is the server's own, and no part of a name here."""
    parts = _split(text)
    path = parts.path.strip("/").removesuffix("/index.yaml").removesuffix("index.yaml")
    if path and not _API_PATH.fullmatch(path):
        raise Refusal(
            f"{parts.path!r} is not the path of a Helm repository", "write it as in 'helm repo add'"
        )
    host = _host(parts)
    return UpstreamUrl(parts.scheme.lower(), host, host, "", path, "helm")


def parse_token_service(text: object) -> str:
    """The origin of a token service: `https://auth.example`, without the port that the scheme has anyway.

    Raises `Refusal`, which shows no password.
    """
    example = "write its scheme and host, e.g. 'https://auth.example'"
    if not isinstance(text, str) or not text.strip():
        raise Refusal("not a URL", example)
    parts = _split(text.strip())
    found = f"{parts.scheme.lower()}://{_host(parts)}"
    if parts.path not in {"", "/"}:
        raise Refusal("a token service is named without a path", f"write {found!r}")
    return found


def _split(text: str) -> SplitResult:
    # First of all, so that no later message can show a part of a password with a '/' in it.
    if "@" in text:
        raise Refusal(
            "the URL holds a user name or password, and profiles are shared and printed",
            "write the URL without it, and put {host: {username, password}} into the file that "
            "sync.credentialsFile names",
        )
    scheme = _SCHEME.match(text)
    try:
        parts = urlsplit(text if scheme else f"https://{text}")
    except ValueError as error:
        raise Refusal("not a URL", _EXAMPLE) from error
    if parts.scheme.lower() not in {"http", "https"}:
        raise Refusal(f"{parts.scheme}:// is not a registry's protocol", _EXAMPLE)
    if parts.query or parts.fragment:
        raise Refusal("a registry's URL has no query and no fragment", _EXAMPLE)
    return parts


def _host(parts: SplitResult) -> str:
    """In lower case, without the port that the scheme has anyway."""
    try:
        port = parts.port
    except ValueError as error:
        raise Refusal("the port of the URL is not a number from 1 to 65535", _EXAMPLE) from error
    name = (parts.hostname or "").lower()
    name = f"[{name}]" if ":" in name else name
    if not _HOST.fullmatch(name) or port == 0:
        raise Refusal(f"{parts.netloc!r} is not a host", _EXAMPLE)
    default = {"https": 443, "http": 80}[parts.scheme.lower()]
    return name if port in {None, default} else f"{name}:{port}"


def _split_path(path: str) -> tuple[str, str]:
    """Where the API is, and what repository names begin with: what stands before and behind `/v2`.

    A path without `v2` is the beginning of repository names.
    """
    before, version, behind = f"{path.rstrip('/')}/".partition("/v2/")
    if not version:
        return "", _path_prefix(path.strip("/"))
    api_path = before.strip("/")
    if api_path and not _API_PATH.fullmatch(api_path):
        raise Refusal(
            f"{before!r} cannot stand before /v2",
            "write e.g. 'https://host/artifactory/api/docker/team/v2', where the API is at <that URL>/",
        )
    return api_path, _path_prefix(behind.strip("/"))


def _path_prefix(prefix: str) -> str:
    """As the beginning of repository names."""
    if prefix in {"", "v1"}:
        return ""
    try:
        return RepositoryName(prefix)
    except InvalidName as error:
        raise Refusal(
            f"'/{prefix}' cannot stand before a repository name",
            "write lower-case path parts, e.g. 'https://docker.io/library', or none; where the API is below "
            "a path, write that with '/v2' at its end",
        ) from error
