"""Who asks upstream, and on whose behalf: a `Via` (RFC 9110, 7.6.3), so that a mirror knows itself again.

Mirrors that mirror one another would otherwise wait for each other: each finds in the requests that it gets
whether it asked for them itself, however many stand in between, and then answers with what it has.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_behind: ContextVar[tuple[str, ...]] = ContextVar("behind", default=())


@contextmanager
def on_behalf_of(mirrors: tuple[str, ...]) -> Iterator[None]:
    """Requests from within name these mirrors too: theirs was the question."""
    token = _behind.set(mirrors)
    try:
        yield
    finally:
        _behind.reset(token)


def via(mark: str) -> str:
    """The header's value for a mirror that is called `mark`; "" for one that has no name."""
    return ", ".join(f"1.1 {each}" for each in (*_behind.get(), mark)) if mark else ""
