"""One registry for all of it, as a stranger sees it: a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.http.server_process import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def conforming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a running registry that may be written to. It follows redirects, as clients do."""
    root = tmp_path_factory.mktemp("conformance") / "store"
    with (
        running_server(root, writable=True) as url,
        httpx.Client(base_url=url, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as client,
    ):
        yield client
