"""Taking turns: all contenders in each round, in another order each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


def alternately(rounds: int, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """What each contender gave in each round."""
    found: dict[str, list[T]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(contenders[name]())
    return found
