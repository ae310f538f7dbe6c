"""One Prefect server for all tests of the engine: our own, started as `up` starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flows.orchestration.prefect_server import PrefectServer
from tests.flows.applying import Apply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient


@pytest.fixture(scope="session")
def engine_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store root whose Prefect server the engine tests share."""
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="session")
def prefect_url(engine_root: Path) -> Iterator[str]:
    """The API's URL; this process talks to it as long as the tests run."""
    server = PrefectServer(engine_root / "prefect", port=0, environment=_without_prefect())
    url = server.start()
    try:
        from prefect.settings import (
            PREFECT_API_URL,
            PREFECT_HOME,
            PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
            temporary_settings,
        )

        # Other tests may have imported prefect before: its settings are read then, not the environment.
        with temporary_settings(
            {PREFECT_API_URL: url, PREFECT_HOME: server.home, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}
        ):
            yield url
    finally:
        server.stop()


@pytest.fixture
def client(prefect_url: str) -> Iterator[SyncPrefectClient]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def apply(client: SyncPrefectClient, tmp_path: Path) -> Apply:
    return Apply(client, tmp_path)


def _without_prefect() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
