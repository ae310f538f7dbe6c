"""A farm on one machine: workers of a Prefect work pool fill one store, and several servers hand it out.

Every worker and server is a host of its own: a home, a spool folder, processes that die at one moment.
Prefect keeps its state in PostgreSQL. The store is in a bucket, whose locks are in PostgreSQL too, or in a
folder that all hosts share. Everything is real, and listens on 127.0.0.1.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx

from benchmarks.harness.upstreams.content import Mirror
from tests.support.nginx import free_ports
from tests.support.object_storage import ENVIRONMENT, running_s3
from tests.support.postgres_server import running_postgres
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.registries import Registry

ROOT = Path(__file__).parents[2]
POOL = "farm"
Storage = Literal["folder", "s3"]
_LOCKS = "FARM_LOCKS_URL"
_SECONDS = 180.0


@dataclass(frozen=True)
class Size:
    """How much the upstream has. `shards` is how many parts the entry is divided into."""

    images: int = 2000
    repositories: int = 40
    median: int = 20_000  # bytes of a layer
    shards: int = 2


@dataclass
class Host:
    """A command that runs on a host of its own. `kill` is what a power cut does."""

    name: str
    folder: Path
    command: list[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        (self.folder / "home").mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder,
                env={**self.environment, "HOME": str(self.folder / "home")}, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL to it and to everything that it started, at one moment."""
        if self.process is None:
            return
        # A worker's runs and a server's workers are in sessions of their own: they are found by their home.
        for pid in {self.process.pid, *_processes_of(self.folder / "home")}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.is_up and self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        self.kill()


def _processes_of(home: Path) -> Iterator[int]:
    """Of everybody whose environment has this home (Linux)."""
    wanted = f"HOME={home}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


@dataclass
class Farm:
    """What runs. The upstream has so many tags (`images`), and so many different manifests and blobs."""

    folder: Path
    upstream: Registry
    images: int
    digests: int
    profile: Path
    environment: dict[str, str]
    prefect_url: str
    workers: list[Host] = field(default_factory=list)
    servers: list[Host] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    @property
    def hosts(self) -> list[Host]:
        return [*self.workers, *self.servers]

    def client(self, number: int) -> httpx.Client:
        """Of a server."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.ports[number]}", timeout=60)

    def command(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """A command of mirrorflow, on a host of its own."""
        home = self.folder / "operator"
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)],
            env={**self._of_host("operator"), "HOME": str(home)},
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip

    def add_worker(self) -> Host:
        name = f"worker-{len(self.workers) + 1}"
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", name]
        self.workers.append(self._host(name, command))
        return self.workers[-1]

    def add_server(self) -> Host:
        name, [port] = f"server-{len(self.servers) + 1}", free_ports(1)
        command = [sys.executable, "-c", "from flows.cli import main; main()", "serve", str(self.profile)]
        self.servers.append(self._host(name, [*command, "--port", str(port)]))
        self.ports.append(port)
        return self.servers[-1]

    def _host(self, name: str, command: list[str]) -> Host:
        host = Host(name, self.folder / name, command, self._of_host(name))
        host.start()
        return host

    def _of_host(self, name: str) -> dict[str, str]:
        """For a store in a bucket, what is local to a host is in a folder of its own."""
        own = {"PREFECT_HOME": str(self.folder / name / "prefect")}
        if _LOCKS in self.environment:
            own["MIRRORFLOW_ROOT_DIRECTORY"] = str(self.folder / name / "spool")
        return {**self.environment, **own}


@contextmanager
def running_farm(
    folder: Path, size: Size, *, storage: Storage = "s3", workers: int = 2, servers: int = 2
) -> Iterator[Farm]:
    """Everything runs as long as the block. Skips the test where PostgreSQL or versitygw is missing."""
    with ExitStack() as running:
        postgres = running.enter_context(running_postgres())
        postgres.query("CREATE DATABASE prefect")
        upstream = running.enter_context(running_registry(folder / "upstream"))
        made = Mirror(size.images, size.repositories, size.median)
        digests = made.fill(upstream.store)
        environment = _environment()
        text = f"storage: {{rootDirectory: {folder / 'store'}}}"
        if storage == "s3":
            s3 = running.enter_context(running_s3(folder / "s3"))
            text = _bucket(s3.make_bucket("mirror"), s3.url)
            environment |= {**ENVIRONMENT, _LOCKS: postgres.url}
        profile = folder / "profile.yaml"
        profile.write_text(f"{text}\n{_ENTRY.format(url=upstream.url, shards=size.shards)}")
        url = running.enter_context(_prefect(folder / "prefect", f"{postgres.url}", environment))
        environment["PREFECT_API_URL"] = url
        farm = Farm(folder, upstream, size.images, digests, profile, environment, url)
        deployed = farm.command("deploy", profile, "--work-pool", POOL, "--create-pool", "process")
        assert deployed.returncode == 0, deployed.stderr
        try:
            for _ in range(workers):
                farm.add_worker()
            for _ in range(servers):
                farm.add_server()
            yield farm
        finally:
            for host in farm.hosts:
                host.stop()


def _bucket(name: str, url: str) -> str:
    return f"""\
storage:
  rootDirectory: spool
  storageDriver:
    {{name: s3, rootdirectory: /store, region: us-east-1, bucket: {name}, regionendpoint: '{url}',
    forcepathstyle: true, secure: false}}
  locks: {{postgresUrlVariable: {_LOCKS}}}"""


_ENTRY = """\
sync:
  registries:
    - name: upstream
      urls: ['{url}']
      maxRetries: 2
      retryDelay: 1s
      shards: {shards}
      content: [{{prefix: '**'}}]
"""


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PREFECT_WORKER_QUERY_SECONDS": "1", "NO_COLOR": "1"}


@contextmanager
def _prefect(home: Path, database: str, environment: Mapping[str, str]) -> Iterator[str]:
    """A Prefect server over PostgreSQL; the URL of its API."""
    [port] = free_ports(1)
    address = re.sub(r"^postgresql://(.*)/postgres$", r"postgresql+asyncpg://\1/prefect", database)
    own = {"PREFECT_HOME": str(home), "PREFECT_API_DATABASE_CONNECTION_URL": address}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    host = Host("prefect", home, [*command, "--no-ui"], {**environment, **own})
    host.start()
    url = f"http://127.0.0.1:{port}/api"
    try:
        _await(lambda: _answers(f"{url}/health"), host)
        yield url
    finally:
        host.stop()


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2).status_code == 200
    return False


def _await(found: Any, host: Host, seconds: float = _SECONDS) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert host.is_up, host.log
        assert time.monotonic() < end, host.log
        time.sleep(0.2)


def await_ready(farm: Farm, number: int) -> None:
    """Until a server that was started answers that it can read its store."""
    _await(lambda: _answers(f"http://127.0.0.1:{farm.ports[number]}/readyz"), farm.servers[number])


def visible(farm: Farm, number: int) -> dict[str, list[str]]:
    """Every repository and its tags, as a client of a server sees them."""
    with farm.client(number) as client:
        names, path = [], "/v2/_catalog?n=1000"
        while path:
            answer = client.get(path)
            names += answer.raise_for_status().json()["repositories"]
            path = answer.links.get("next", {}).get("url", "")
        found = {}
        for name in names:
            answer = client.get(f"/v2/{name}/tags/list?n=10000")
            if answer.status_code == 200:
                found[name] = answer.json()["tags"]
        return found
