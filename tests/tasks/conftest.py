from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support_misbehaving import Misbehaving, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    """A registry over real sockets; it behaves until a test says otherwise, and counts what it was asked."""
    with misbehaving() as server:
        # It writes heads and bodies apart, which Nagle and delayed ACKs make 40 ms an answer.
        handler = server._server.RequestHandlerClass
        handler.disable_nagle_algorithm = True  # type: ignore[attr-defined] # socketserver's, of a subclass
        yield server
