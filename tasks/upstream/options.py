"""What the client of an upstream needs to know: a part of a profile's registry entry.

`RegistryOptions` is satisfied by a profile's `RegistryEntry`; `UpstreamOptions` is the same without a
profile around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from profiles.values.upstream_url import Kind


class EndpointUrl(Protocol):
    """One of `urls`. `host` has the port; `registry` is what people and credentials call it."""

    @property
    def kind(self) -> Kind: ...
    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def path_prefix(self) -> str: ...
    @property
    def api_path(self) -> str:
        """What stands before `/v2/`, without slashes around it."""

    @property
    def registry(self) -> str: ...
    def repository(self, name: str) -> str:
        """The name that this upstream knows `name` by, its path prefix included."""


class RegistryOptions(Protocol):
    """Times in seconds."""

    @property
    def urls(self) -> Sequence[EndpointUrl]: ...
    @property
    def tls_verify(self) -> bool: ...
    @property
    def cert_dir(self) -> Path | None: ...
    @property
    def token_services(self) -> Sequence[str]:
        """Origins that may see the credentials although they are under another domain."""

    @property
    def connect_timeout(self) -> float: ...
    @property
    def response_header_timeout(self) -> float: ...
    @property
    def read_timeout(self) -> float: ...
    @property
    def req_concurrent(self) -> int: ...
    @property
    def req_per_sec(self) -> float | None: ...
    @property
    def max_idle_conns_per_host(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class PlainUrl:
    scheme: str
    host: str
    path_prefix: str = ""
    api_path: str = ""
    kind: Kind = "registry"

    @property
    def registry(self) -> str:
        return self.host

    def repository(self, name: str) -> str:
        return f"{self.path_prefix}/{name}" if self.path_prefix else name


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """Times in seconds."""

    urls: tuple[EndpointUrl, ...]
    tls_verify: bool = True
    cert_dir: Path | None = None
    token_services: tuple[str, ...] = ()
    connect_timeout: float = 5.0
    response_header_timeout: float = 30.0
    read_timeout: float = 30.0
    req_concurrent: int = 8
    req_per_sec: float | None = None
    max_idle_conns_per_host: int | None = None
