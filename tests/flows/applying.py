"""Deployments of a store that only one test knows, on the Prefect server of the tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from flows.orchestration.deployments import apply_definitions
from tests.flows.tiny import ENTRYPOINT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from flows.orchestration.deployments import Changes, Definition, FirstRuns


def _now() -> datetime:
    return datetime.now(UTC)


class Apply:
    """Call it with all definitions of the store."""

    def __init__(self, client: SyncPrefectClient, home: Path) -> None:
        self._client, self.home, self.store = client, home, str(uuid4())

    def __call__(
        self,
        *definitions: Definition,
        store: str = "",
        work_pool: str | None = None,
        first_runs: FirstRuns = "none",
        now: Callable[[], datetime] = _now,
    ) -> Changes:
        return apply_definitions(
            self._client,
            definitions,
            store_uuid=store or self.store,
            home=self.home,
            entrypoint=ENTRYPOINT,
            work_pool=work_pool,
            first_runs=first_runs,
            now=now,
        )
