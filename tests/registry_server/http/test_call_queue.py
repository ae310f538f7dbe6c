"""Calls to the receiver of misses: few at a time, and one repository's many are not before another's few."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from registry_server.http.pull_through.call_queue import CallQueue
from registry_server.http.server_process import running_server
from registry_server.store.store import Store
from tests.registry_server.http.fetching import fetching

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_NEVER = 3600.0  # seconds after which a call counts as taken
_SOON = 0.01
_MANY = 400


class Calls:
    """`began` names the calls in the order of their turns; each ends when it is told to."""

    def __init__(self, *, at_once: int = 1, taken: float = _NEVER) -> None:
        self._queue = CallQueue(at_once, taken)
        self.began: list[str] = []
        self._changed = asyncio.Condition()
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def make(self, name: str, group: str = "a", *, is_here: bool = False, same: str = "") -> None:
        """`same`: calls with this question, whatever their names."""
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._call(name, same or name, group, is_here=is_here))
        await _settle()

    async def turn_of(self, name: str) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: name in self.began)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await _settle()

    async def hang_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await _settle()

    async def _call(self, name: str, question: str, group: str, *, is_here: bool) -> None:
        async with self._queue.turn(question, group, is_here=is_here):
            self.began.append(name)
            async with self._changed:
                self._changed.notify_all()
            await self._ends[name].wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        await test()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(body())


def test_only_so_many_calls_are_under_way_and_each_end_begins_the_next() -> None:
    async def test() -> None:
        calls = Calls(at_once=2)
        for name in ("1", "2", "3", "4"):
            await calls.make(name)
        assert calls.began == ["1", "2"]
        await calls.end("2")
        assert calls.began == ["1", "2", "3"]

    run(test)


def test_each_group_has_its_turn_however_many_another_one_has() -> None:
    async def test() -> None:
        calls = Calls()
        for name in ("a1", "a2", "a3"):
            await calls.make(name, "a")
        await calls.make("b1", "b")
        await calls.make("b2", "b")
        for name in ("a1", "a2", "b1", "a3", "b2"):
            await calls.end(name)
        assert calls.began == ["a1", "a2", "b1", "a3", "b2"]

    run(test)


def test_what_the_store_can_answer_goes_before_what_is_missing() -> None:
    async def test() -> None:
        calls = Calls()
        await calls.make("first", "a")
        await calls.make("missing", "b")
        await calls.make("here", "c", is_here=True)
        await calls.end("first")
        assert calls.began == ["first", "here"]

    run(test)


def test_a_call_that_waits_for_an_upstream_makes_no_other_one_wait() -> None:
    async def test() -> None:
        calls = Calls(taken=_SOON)
        await calls.make("hangs")
        await calls.make("next")
        await calls.turn_of("next")
        await calls.end("hangs")  # its place was left already, and is not left twice
        await calls.make("third")
        assert calls.began == ["hangs", "next"]

    run(test)


def test_calls_with_one_question_go_together_and_hold_one_place() -> None:
    async def test() -> None:
        calls = Calls()
        for name in ("a1", "a2"):
            await calls.make(name, same="a")
        await calls.make("other")
        await calls.make("a3", same="a")
        assert calls.began == ["a1", "a2", "a3"]
        for name in ("a1", "a3"):
            await calls.end(name)
        assert calls.began == ["a1", "a2", "a3"], "one of them is still under way"
        await calls.end("a2")
        assert calls.began[3:] == ["other"]

    run(test)


def test_of_too_many_calls_with_one_question_the_rest_waits_for_its_turn() -> None:
    async def test() -> None:
        calls = Calls()
        for number in range(70):
            await calls.make(str(number), same="a")
        assert len(calls.began) == 64
        for number in range(64):
            await calls.end(str(number))
        assert len(calls.began) == 70

    run(test)


def test_a_client_that_hangs_up_takes_no_turn_from_the_others_with_its_question() -> None:
    async def test() -> None:
        calls = Calls()
        await calls.make("first")
        for name in ("a1", "a2"):
            await calls.make(name, same="a")
        await calls.hang_up("a1")
        await calls.end("first")
        assert calls.began == ["first", "a2"]

    run(test)


def test_clients_that_hang_up_leave_no_place_taken() -> None:
    async def test() -> None:
        calls = Calls()
        for name in ("1", "2", "3"):
            await calls.make(name)
        await calls.hang_up("2")  # it waits
        await calls.hang_up("1")  # it is under way
        assert calls.began == ["1", "3"]
        await calls.end("3")
        await calls.make("4")
        assert calls.began == ["1", "3", "4"]

    run(test)


def test_a_client_that_hangs_up_in_the_moment_of_its_turn_hands_it_on() -> None:
    async def test() -> None:
        calls = Calls()
        for name in ("1", "2", "3"):
            await calls.make(name)
        calls._ends["1"].set()
        await asyncio.sleep(0)
        await calls.hang_up("2")
        assert calls.began == ["1", "3"]

    run(test)


def test_a_miss_does_not_wait_behind_many_of_another_repository(tmp_path: Path) -> None:
    """The receiver answers none of them; it notes in which order they come."""
    store = Store.open(tmp_path / "store")
    with fetching(store, tmp_path) as receiver, ExitStack() as clients:
        receiver.gate.clear()
        with running_server(store.root, on_miss=receiver.options) as url:
            address = ("127.0.0.1", int(url.rpartition(":")[2]))

            def ask(repository: str, tag: str) -> None:
                client = clients.enter_context(socket.create_connection(address))
                client.sendall(f"GET /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

            for number in range(_MANY):
                ask("bad/app", str(number))
            ask("good/app", "1")
            while "good/app 1" not in receiver.asked:
                time.sleep(_SOON)
            before = receiver.asked.index("good/app 1")
            receiver.gate.set()
    assert before < _MANY / 2
