"""The threads that talk to upstream: so many at a time, and what was not begun when they close."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from tasks.run.transfers import Transfers

PATIENCE = 20  # seconds


def test_every_item_is_done_once_and_the_results_are_in_order() -> None:
    done: list[int] = []

    def square(item: int) -> int:
        done.append(item)
        return item * item

    transfers = Transfers(3)
    results = transfers.each(square, range(1000))
    assert results == [item * item for item in range(1000)]
    assert sorted(done) == [*range(1000)]
    transfers.close()


def test_no_items_are_no_work() -> None:
    transfers = Transfers(3)
    assert transfers.each(str, []) == []
    transfers.close()


def test_a_few_items_are_done_at_the_same_time() -> None:
    transfers, together = Transfers(3), threading.Barrier(3, timeout=PATIENCE)
    assert sorted(transfers.each(lambda _: together.wait(), "abc")) == [0, 1, 2]
    transfers.close()


def test_what_has_not_begun_when_they_close_is_dropped() -> None:
    begun: list[int] = []
    in_work, go_on = threading.Event(), threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        in_work.set()
        assert go_on.wait(PATIENCE)

    transfers = Transfers(1)
    with ThreadPoolExecutor(2) as others:
        caller = others.submit(transfers.each, work, range(100))
        assert in_work.wait(PATIENCE)
        closing = others.submit(transfers.close)
        while not transfers._closed:
            pass
        go_on.set()
        with pytest.raises(CancelledError):
            caller.result(PATIENCE)
        closing.result(PATIENCE)
    assert begun == [0]
