"""What need not be done again at once."""

from __future__ import annotations

from registry_server.store.lately import Lately


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_key_is_due_once_in_so_many_seconds() -> None:
    clock = Clock()
    lately = Lately(60, clock)
    assert [lately.is_due(key) for key in ("a", "b", "a", "b")] == [True, True, False, False]
    clock.now += 59
    assert not lately.is_due("a")
    clock.now += 1
    assert lately.is_due("a")
    assert not lately.is_due("a")


def test_keys_without_end_do_not_fill_the_memory() -> None:
    lately = Lately()
    for number in range(25_000):
        assert lately.is_due(str(number))
    assert len(lately._next) <= 10_000
