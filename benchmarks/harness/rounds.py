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
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, list[T]]:
    """What each contender gave in each round.

    A round that would end after `within` seconds, if it takes as long as the longest did, is left out: a slow
    machine shall be done in 15 minutes too. The first one is not.
    """
    found: dict[str, list[T]] = {name: [] for name in contenders}
    names, began, longest = list(contenders), clock(), 0.0
    for number in range(rounds):
        started = clock()
        if number and started - began + longest > within:
            break
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(contenders[name]())
        longest = max(longest, clock() - started)
    return found
