"""What need not be done again at once."""

from __future__ import annotations

from registry_server.store.filesystem.throttle import Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_key_is_due_once_in_so_many_seconds() -> None:
    clock = Clock()
    throttle = Throttle(60, clock)
    assert [throttle.allow(key) for key in ("a", "b", "a", "b")] == [True, True, False, False]
    clock.now += 59
    assert not throttle.allow("a")
    clock.now += 1
    assert throttle.allow("a")
    assert not throttle.allow("a")


def test_keys_without_end_do_not_fill_the_memory() -> None:
    throttle = Throttle()
    for number in range(25_000):
        assert throttle.allow(str(number))
    assert len(throttle._next) <= 10_000
