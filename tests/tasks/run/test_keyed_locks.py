"""One lock a key, for as long as somebody wants it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.run.transfers import KeyedLocks


def test_of_many_who_want_the_same_only_the_first_does_the_work() -> None:
    locks, done = KeyedLocks(), set[str]()
    worked: list[str] = []

    def work(key: str) -> None:
        with locks.holding(key):
            if key not in done:
                worked.append(key)
                done.add(key)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, ["a", "b", "c", "d"] * 100))
    assert sorted(worked) == ["a", "b", "c", "d"]


def test_who_wants_something_else_does_not_wait() -> None:
    locks, passed = KeyedLocks(), threading.Event()

    def other() -> None:
        with locks.holding("b"):
            passed.set()

    with locks.holding("a"):
        thread = threading.Thread(target=other)
        thread.start()
        assert passed.wait(10)
        thread.join()


def test_a_failure_lets_the_next_one_in_and_nothing_is_remembered() -> None:
    locks = KeyedLocks()
    with pytest.raises(ZeroDivisionError), locks.holding("a"):
        _ = 1 / 0
    with locks.holding("a"):
        pass
    assert locks._held == {}
