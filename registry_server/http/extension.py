"""What the program that starts the server adds to it: answers outside of `/v2/`, and series of `/metrics`.

The server knows an extension by the name of its factory only, because what an extension shows needs modules
that the server itself does without.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.registry import Collector
    from starlette.requests import Request
    from starlette.responses import Response

    from registry_server.http.auth.guard import Guard
    from registry_server.store.store import Store

_OWN = ("/v2", "/livez", "/readyz", "/metrics", "/auth")


class ExtensionInvalid(MirrorflowError):
    """What `--extension` names cannot be loaded."""


class Extension(Protocol):
    """An object of one worker."""

    kind: ClassVar[str]
    """What the access log and the metrics call a request that it answers."""

    async def answer(self, request: Request) -> Response:
        """For a path that `is_own` does not claim. Raises `AccessRefused`."""
        ...

    def collectors(self) -> Iterable[Collector]:
        """What `/metrics` shows beside the server's own series."""
        ...


@dataclass(frozen=True, slots=True)
class ExtensionName:
    """`factory` is `package.module:callable`; it is called with the store, the guard and `argument`."""

    factory: str
    argument: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """`package.module:callable=argument`. Raises `ExtensionInvalid`."""
        factory, equals, argument = text.partition("=")
        if not equals or ":" not in factory:
            raise ExtensionInvalid(f"{text!r} is not of the form MODULE:CALLABLE=ARGUMENT")
        return cls(factory, argument)

    def __str__(self) -> str:
        return f"{self.factory}={self.argument}"

    def load(self, store: Store, guard: Guard | None) -> Extension:
        """Raises `ExtensionInvalid` when there is no such factory."""
        try:
            factory = pkgutil.resolve_name(self.factory)
        except (ImportError, AttributeError, ValueError) as error:
            raise ExtensionInvalid(f"the extension {self.factory!r} cannot be loaded: {error}") from error
        extension: Extension = factory(store, guard, self.argument)
        return extension


def is_own(path: str) -> bool:
    """Whether a path belongs to the server itself, whether it is an endpoint or not."""
    return any(path == own or path.startswith(f"{own}/") for own in _OWN)
