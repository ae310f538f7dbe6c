"""Taking turns: all contenders in each round, in another order each time."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


def alternately(
    rounds: int,
    contenders: Mapping[str, Callable[[], T]],
    *,
    within: float = math.inf,
    patience: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, list[T]]:
    """What each contender gave in each round.

    A round that would end after `within` seconds, if it takes as long as the longest did, is left out: a slow
    machine shall be done in time too. The first one is not. A contender that took more than `patience` times
    as long as the first one of the mapping has no further turn.
    """
    found: dict[str, list[T]] = {name: [] for name in contenders}
    names, began, longest = list(contenders), clock(), 0.0
    for number in range(rounds):
        started = clock()
        if number and started - began + longest > within:
            break
        turn, took = number % len(names), dict[str, float]()
        for name in names[turn:] + names[:turn]:
            began_turn = clock()
            found[name].append(contenders[name]())
            took[name] = clock() - began_turn
        names = [name for name in names if took[name] <= max(1, patience) * took[names[0]]]
        longest = max(longest, clock() - started)
    return found
