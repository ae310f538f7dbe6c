"""A work pool of one test, and a real worker of it, which could as well run on another host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from tests.flows.mirrors import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


class Worker:
    """Starts with the block, and ends with it. What it and its runs print is in `log`."""

    def __init__(self, client: SyncPrefectClient, url: str, home: Path, pool_type: str = "process") -> None:
        from prefect.client.schemas.actions import WorkPoolCreate

        self.pool = f"pool-{uuid4().hex[:8]}"
        client.create_work_pool(WorkPoolCreate(name=self.pool, type=pool_type))
        self._client = client
        self._log = home / f"{self.pool}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(home / "worker"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PYTHONPATH": str(ROOT),
        }

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool]
        with self._log.open("ab") as log:
            # A session of its own: a host that loses its power loses all processes of it.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        self.lose_power()

    def lose_power(self) -> None:
        """SIGKILL to the worker and everything that it has started, all at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def start_run(self, deployment: str, **options: Any) -> FlowRun:
        """`deployment` is `flow/name`."""
        found = self._client.read_deployment_by_name(deployment)
        return self._client.create_flow_run_from_deployment(found.id, **options)

    def await_state(self, run: UUID, *names: str, seconds: float = 180) -> FlowRun:
        """Until the run is in one of these states."""
        end = time.monotonic() + seconds
        while True:
            found = self._client.read_flow_run(run)
            if found.state_name in names:
                return found
            assert time.monotonic() < end, f"{found.state_name}: {found.state}\n{self.log}"
            time.sleep(0.1)


def eventually(found: Callable[[], bool], worker: Worker, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, worker.log
        time.sleep(0.1)
