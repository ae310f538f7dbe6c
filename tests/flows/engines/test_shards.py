"""An entry with `shards`: its deployments, the limits of each, and runs of all into one store."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from flows.direct_run import run_direct
from flows.lifecycle.stop_signals import StopSignal
from flows.orchestration.deployment_definitions import definitions
from flows.orchestration.deployment_runs import Run
from flows.orchestration.deployments import our_deployments
from flows.orchestration.work_pools.deploy import database_note
from flows.processes import share_of
from profiles.loader import load_profile
from profiles.values.shard import Shard
from registry_server.store.store import Store
from tests.flows.orchestration.databases import parsed, prefect_with
from tests.support.command_line import mirrorflow, write_profile
from tests.support.waiting import wait_for
from tests.support_misbehaving import Misbehaving, well_behaved
from tests.tasks.runs import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from tests.flows.applying import Apply
    from tests.support_misbehaving import Exchange

    RunShard = Callable[[Path, Shard], tuple[str, str]]

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SHARDS = (Shard(1, 2), Shard(2, 2))
NAMES = [f"apps/app-{number}" for number in range(8)]


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        for name in NAMES:
            found.add_image(name, "1", (b"base", name.encode()))
        yield found


def write(folder: Path, upstream: Misbehaving, shards: int = 2, processes: int = 1) -> Path:
    entry = {
        "name": "up",
        "urls": [f"http://{upstream.host}"],
        "content": [{"prefix": "**"}],
        "shards": shards,
    }
    document = {
        "storage": {"rootDirectory": "store"},
        "sync": {"processes": processes, "registries": [entry]},
    }
    profile = folder / "profile.json"
    profile.write_text(json.dumps(document))
    return profile


def by_threads(profile: Path, shard: Shard) -> tuple[str, str]:
    return run_direct(profile, "up", shard=shard)


def by_prefect(profile: Path, shard: Shard) -> tuple[str, str]:
    from flows.mirror_registry import mirror_registry

    state: Any = mirror_registry(str(profile), "up", None, str(shard), return_state=True)
    return state.type.value, state.message


@pytest.mark.parametrize(
    ("run", "processes"),
    [
        pytest.param(by_threads, 1, id="threads"),
        pytest.param(by_threads, 2, id="processes"),
        pytest.param(by_prefect, 1, id="Prefect"),
    ],
)
def test_two_shards_bring_what_one_run_brings(
    prefect_url: str, tmp_path: Path, upstream: Misbehaving, run: RunShard, processes: int
) -> None:
    profile = write(tmp_path, upstream, processes=processes)
    assert [run(profile, shard)[0] for shard in SHARDS] == ["COMPLETED", "COMPLETED"]
    store = Store.open(tmp_path / "store")
    assert set(visible(store)) == {f"{name}:1" for name in NAMES}
    reports = store.reports.load_all()
    assert [report["shard"] for report in reports] == ["1/2", "2/2"]
    shares = [sum(shard.owns(name) for name in NAMES) for shard in SHARDS]
    assert [report["totals"]["copied"] for report in reports] == shares
    assert all(shares)
    assert run_direct(profile, "up") == ("COMPLETED", "8 of 8 images, nothing new")


def test_a_layer_that_two_shards_need_is_fetched_once(tmp_path: Path, upstream: Misbehaving) -> None:
    """It is on its way when the other shard knows that it needs it, too."""
    images = [
        upstream.add_image(name, "2", (b"the shared layer", b"%d" % number))
        for number, name in enumerate(NAMES)
    ]
    shared = images[0].layers[0].digest

    def waits(exchange: Exchange) -> None:
        wait_for(lambda: len(upstream.requests("GET", "/manifests/")) == 2 * len(NAMES), 10)
        well_behaved(exchange)

    for name in NAMES:
        upstream.on(f"/v2/{name}/blobs/{shared}", waits)
    profile = write(tmp_path, upstream)
    with ThreadPoolExecutor(2) as threads:
        running = [
            threads.submit(run_direct, profile, "up", shard=shard, stop=StopSignal()) for shard in SHARDS
        ]
        assert [each.result()[0] for each in running] == ["COMPLETED", "COMPLETED"]
    assert len(upstream.requests("GET", f"/blobs/{shared}")) == 1


def test_a_shard_that_there_is_not_fails_and_says_what_to_write(
    prefect_url: str, tmp_path: Path, upstream: Misbehaving
) -> None:
    from flows.mirror_registry import mirror_registry

    profile = write(tmp_path, upstream)
    state: Any = mirror_registry(str(profile), "up", None, "3/2", return_state=True)
    assert state.is_failed()
    assert "'3/2' is not a shard" in state.message


@pytest.mark.parametrize(
    ("given", "parts", "expected"),
    [
        pytest.param({}, 4, {"req_concurrent": 2, "req_per_sec": None, "bytes_per_sec": None}, id="defaults"),
        pytest.param(
            {"reqConcurrent": 32, "reqPerSec": 10, "bytesPerSec": "10MB"},
            4,
            {"req_concurrent": 8, "req_per_sec": 2.5, "bytes_per_sec": 2_500_000},
            id="each a quarter",
        ),
        pytest.param({"reqConcurrent": 2}, 4, {"req_concurrent": 1}, id="at least one request at a time"),
        pytest.param({"bytesPerSec": 3}, 4, {"bytes_per_sec": 1}, id="at least a byte a second"),
        pytest.param({"reqPerSec": 10}, 1, {"req_per_sec": 10}, id="one part has all"),
    ],
)
def test_parts_share_the_limits_of_their_entry(
    tmp_path: Path, given: dict[str, Any], parts: int, expected: dict[str, Any]
) -> None:
    profile = parsed(tmp_path, **given)
    _, entry = share_of(profile, profile.sync.registries[0], parts)
    assert {name: getattr(entry, name) for name in expected} == expected


def test_parts_share_the_limit_of_the_profile(tmp_path: Path) -> None:
    profile = parsed(tmp_path, {"bytesPerSec": "8MB"})
    limited, _ = share_of(profile, profile.sync.registries[0], 4)
    assert limited.sync.bytes_per_sec == 2_000_000


def test_a_shard_keeps_its_share_of_the_limits(tmp_path: Path, upstream: Misbehaving) -> None:
    """Of the two requests that the entry may have under way at once, a shard of two has one."""
    at_once, most, lock = [0], [0], threading.Lock()

    def counted(exchange: Exchange) -> None:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        threading.Event().wait(0.05)
        with lock:
            at_once[0] -= 1
        well_behaved(exchange)

    for name in NAMES:
        upstream.on(f"/v2/{name}/tags/list", counted)
    profile = write(tmp_path, upstream)
    profile.write_text(profile.read_text().replace('"shards"', '"reqConcurrent": 2, "shards"'))
    assert run_direct(profile, "up", shard=SHARDS[0])[0] == "COMPLETED"
    assert most == [1]


def test_each_shard_has_a_deployment(tmp_path: Path) -> None:
    profile = parsed(tmp_path, shards=3, pollInterval="6h")
    found = definitions(profile, tmp_path / "profile.json")
    assert [each.name for each in found] == ["up:1-of-3", "up:2-of-3", "up:3-of-3"]
    assert [each.parameters["shard"] for each in found] == ["1/3", "2/3", "3/3"]
    assert {each.timing for each in found} == {profile.sync.registries[0].timing}
    assert "shard 2/3 of" in found[1].description
    [whole] = definitions(parsed(tmp_path), tmp_path / "profile.json")
    assert (whole.name, "shard" in whole.parameters) == ("up", False)


def test_another_number_of_shards_replaces_the_deployments(
    client: SyncPrefectClient, apply: Apply, tmp_path: Path, upstream: Misbehaving
) -> None:
    path = write(tmp_path, upstream)
    path.write_text(path.read_text().replace('"up"', f'"{apply.store[:8]}"'))
    for shards in (2, 3, 1):
        path.write_text(path.read_text().replace('"shards": 2', f'"shards": {shards}'))
        wanted = definitions(load_profile(path).profile, path)
        apply(*wanted)
        found = {each.name: each for each in our_deployments(client, apply.store)}
        assert set(found) == {each.name for each in wanted}
        limits = [each.global_concurrency_limit for each in found.values()]
        assert [limit and limit.limit for limit in limits] == [1] * len(wanted), "none overlaps itself"
        path.write_text(path.read_text().replace(f'"shards": {shards}', '"shards": 2'))


@pytest.mark.parametrize(
    ("shards", "driver", "status", "said"),
    [
        pytest.param(4, "sqlite+aiosqlite", 200, "the Prefect server uses SQLite, it", id="SQLite"),
        pytest.param(4, None, 200, "if the Prefect server uses SQLite, it", id="it does not tell"),
        pytest.param(4, "postgresql+asyncpg", 200, "", id="PostgreSQL"),
        pytest.param(3, "sqlite+aiosqlite", 200, "", id="three are no problem"),
        pytest.param(4, None, 404, "", id="Prefect Cloud has no such route"),
    ],
)
def test_deploy_tells_which_database_many_shards_need(
    tmp_path: Path, shards: int, driver: str | None, status: int, said: str
) -> None:
    with prefect_with(driver, status) as client:
        note = database_note(client, parsed(tmp_path, shards=shards))
    assert said in note
    assert bool(note) == bool(said)
    assert ("PREFECT_SERVER_DATABASE_CONNECTION_URL" in note) == bool(said)


def test_deploy_names_each_shard(prefect_url: str, tmp_path: Path) -> None:
    name = f"deployed-{uuid4().hex[:6]}"
    profile = write_profile(tmp_path, "http://127.0.0.1:1", "{prefix: '**'}", "shards: 4,")
    profile.write_text(profile.read_text().replace("name: up", f"name: {name}"))
    done = mirrorflow("deploy", profile, PREFECT_API_URL=prefect_url)
    assert done.returncode == 0, done.stderr
    deployed = [line for line in done.stdout.splitlines() if line.startswith("deployed")]
    assert deployed == [
        f"deployed  mirror_registry/{name}:{number}-of-4, when asked" for number in (1, 2, 3, 4)
    ]
    assert "note      shards: 4: " in done.stdout


@pytest.mark.parametrize(
    ("shard", "part"),
    [
        pytest.param("2/4", "up:2-of-4", id="of a shard"),
        pytest.param(None, "up", id="of all of the entry"),
        pytest.param("9/4", "up", id="of a shard that a user has mistyped: the run itself says so"),
    ],
)
def test_a_run_names_its_part(shard: str | None, part: str) -> None:
    parameters = {"registry": "up", "shard": shard}
    run = Run(uuid4(), "", "up", parameters, "", "", final=True, completed=False, started=None, ended=None)
    assert run.part == part
