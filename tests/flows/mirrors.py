"""A profile in a folder of its own, and the `up` that serves it on the Prefect server of the tests."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from rich.console import Console

import flows
from flows.supervisor.up import Supervisor
from registry_server.store.store import Store
from tests.flows.tiny import ENTRYPOINT

ROOT = Path(flows.__file__).parents[1]


class Mirror:
    """A profile of its own, and the `up` that serves it. Entry names are unique on the shared server."""

    def __init__(self, folder: Path, url: str) -> None:
        self.profile = folder / "profile.yaml"
        self.mark = uuid4().hex[:6]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PYTHONPATH": str(ROOT),  # for the flow, which lives in the tests
        }

    def write(self, *names: str, poll: str = "1h", port: int = 0) -> None:
        """A profile that polls these entries; those whose name begins with `asked` only when asked."""
        entries = [
            f"{{name: {self.name(name)}, urls: ['http://127.0.0.1:1'], content: [{{prefix: '**'}}]"
            + ("}" if name.startswith("once") else f", pollInterval: {poll}}}")
            for name in names
        ]
        self.profile.write_text(
            "storage: {rootDirectory: store}\n"
            f"http: {{port: {port}}}\n"
            "sync:\n  registries:\n" + "".join(f"    - {entry}\n" for entry in entries)
        )

    def name(self, entry: str) -> str:
        return f"{entry}-{self.mark}"

    def up(self) -> Supervisor:
        return Supervisor(
            self.profile,
            environment=self.environment,
            entrypoint=ENTRYPOINT,
            grace=2,
            console=Console(quiet=True),
        )

    @property
    def store(self) -> str:
        return Store.open(self.profile.parent / "store").uuid

    def pids(self, entry: str) -> list[int]:
        """Process ids of the runs of this entry, which have left them beside the profile."""
        record = Path(f"{self.profile}.{self.name(entry)}")
        return [int(line.split()[0]) for line in record.read_text().splitlines()] if record.exists() else []
