"""What every implementation of `Turns` promises."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.store.errors import StoreLocked
from registry_server.store.filesystem.disk import Disk
from registry_server.store.turns.folder import FolderTurns
from registry_server.store.turns.postgres import PostgresTurns
from tests.registry_server.store.turns.holder import counting, holding
from tests.support.postgres_server import running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from registry_server.store.turns.turns import Turns
    from tests.support.postgres_server import PostgresServer

WAIT = 0.3
"""Seconds after which a thread that waits is taken to wait for ever."""


_FOLDER = """
from registry_server.store.filesystem.disk import Disk
from registry_server.store.turns.folder import FolderTurns
turns = FolderTurns(Disk({root!r}, "none"))
"""


@dataclass(frozen=True)
class Place:
    """Turns of this process, and the code by which another one makes its own."""

    turns: Turns
    code: str


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["folder", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        disk = Disk(str(tmp_path / "store"), "none")
        disk.make_first_folder(disk.root)
        (tmp_path / "store" / "format.json").touch()
        return Place(FolderTurns(disk), _FOLDER.format(root=disk.root))
    server: PostgresServer = request.getfixturevalue("postgres")
    code = (
        "import time\n"
        "from registry_server.store.turns.postgres import PostgresTurns\n"
        f"turns = PostgresTurns({server.url!r}, {tmp_path.name!r}, now=time.time)"
    )
    return Place(PostgresTurns(server.url, tmp_path.name, now=time.time), code)


@pytest.fixture
def turns(place: Place) -> Turns:
    return place.turns


class Taking:
    """A thread that takes something, and holds it until it is told."""

    def __init__(self, turn: AbstractContextManager[Any]) -> None:
        self._turn = turn
        self._held, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._turn:
            self._held.set()
            self._end.wait()

    def has_it(self, within: float = 10.0) -> bool:
        return self._held.wait(within)

    def end(self) -> None:
        self._end.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.mark.parametrize(
    ("first", "second", "name", "waits"),
    [
        pytest.param("alone", "alone", "a", True, id="two alone"),
        pytest.param("alone", "among_others", "a", True, id="among others after alone"),
        pytest.param("among_others", "alone", "a", True, id="alone after among others"),
        pytest.param("among_others", "among_others", "a", False, id="two among others"),
        pytest.param("alone", "alone", "b", False, id="another name"),
    ],
)
def test_who_waits_for_whom(turns: Turns, first: str, second: str, name: str, *, waits: bool) -> None:
    with getattr(turns, first)("a"):
        other = Taking(getattr(turns, second)(name))
        assert other.has_it(WAIT if waits else 10.0) is not waits
    assert other.has_it()
    other.end()


def test_who_wants_to_be_alone_is_not_passed_by_others(turns: Turns) -> None:
    with turns.among_others("a"):
        alone = Taking(turns.alone("a"))
        assert not alone.has_it(WAIT)
        late = Taking(turns.among_others("a"))
        assert not late.has_it(WAIT)
    assert alone.has_it()
    assert not late.has_it(WAIT)
    alone.end()
    assert late.has_it()
    late.end()


def test_an_error_in_the_block_ends_the_turn(turns: Turns) -> None:
    with pytest.raises(ZeroDivisionError), turns.alone("a"):
        raise ZeroDivisionError
    after = Taking(turns.alone("a"))
    assert after.has_it()
    after.end()


def test_eight_processes_count_without_losing_one(place: Place, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [counting(place.code, counter, 25) for _ in range(8)]
    assert [each.wait(60) for each in processes] == [0] * 8
    assert counter.read_text() == "200"


@pytest.mark.parametrize("what", ["alone('a')", "among_others('a')"])
def test_a_turn_ends_with_its_killed_process(place: Place, what: str) -> None:
    with holding(place.code, what) as process:
        waiting = Taking(place.turns.alone("a"))
        assert not waiting.has_it(WAIT)
        process.kill()
        assert waiting.has_it()
        waiting.end()


def test_a_role_has_one_holder_whose_process_is_named(place: Place) -> None:
    with holding(place.code, "claim('up')") as process:
        assert place.turns.is_claimed("up")
        holder = place.turns.claimant("up")
        assert holder is not None
        assert (holder.pid, holder.is_on_this_host) == (process.pid, True)
        with pytest.raises(StoreLocked, match=f"process {process.pid} on .* 'up'") as raised:
            place.turns.claim("up").__enter__()
        assert raised.value.holder == holder
        with place.turns.claim("gc"):
            assert place.turns.is_claimed("gc")


def test_a_role_is_free_before_and_after(turns: Turns) -> None:
    assert not turns.is_claimed("up")
    with turns.claim("up"):
        assert turns.is_claimed("up")
    assert not turns.is_claimed("up")
    assert turns.claimant("up") is None


def test_a_role_ends_with_its_killed_process(place: Place) -> None:
    with holding(place.code, "claim('up')") as process:
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while place.turns.is_claimed("up") and time.monotonic() < deadline:
            time.sleep(0.01)
    with place.turns.claim("up"):
        holder = place.turns.claimant("up")
        assert holder is not None
        assert holder.pid != process.pid


def test_two_threads_are_two_claimants(turns: Turns) -> None:
    with turns.claim("gc"), pytest.raises(StoreLocked):
        turns.claim("gc").__enter__()


def test_the_oldest_lease_is_told_by_its_begin(turns: Turns) -> None:
    assert turns.oldest_lease() is None
    before = time.time()
    with ExitStack() as leases:
        leases.enter_context(turns.lease())
        began = turns.oldest_lease()
        assert began is not None
        assert before - 2 < began <= time.time()
        time.sleep(1.1)
        with turns.lease():
            assert turns.oldest_lease() == pytest.approx(began, abs=0.5)
    assert turns.oldest_lease() is None


def test_a_lease_ends_with_its_killed_process(place: Place) -> None:
    with holding(place.code, "lease()") as process:
        assert place.turns.oldest_lease() is not None
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while place.turns.oldest_lease() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
    assert place.turns.oldest_lease() is None
