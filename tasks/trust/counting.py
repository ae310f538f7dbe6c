"""n of m: how many authorities are satisfied by different signers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def most_pairs(edges: Iterable[tuple[str, str]]) -> int:
    """The most (authority, signer) pairs in which no authority and no signer stands twice.

    One signer that fits two authorities counts once; a key that signs twice counts once. A maximum matching
    by augmenting paths; there are at most a few dozen of each.
    """
    signers: dict[str, list[str]] = {}
    for authority, signer in edges:
        signers.setdefault(authority, []).append(signer)
    taken: dict[str, str] = {}
    return sum(_augment(authority, signers, taken, set()) for authority in signers)


def _augment(authority: str, signers: dict[str, list[str]], taken: dict[str, str], seen: set[str]) -> bool:
    for signer in signers[authority]:
        if signer in seen:
            continue
        seen.add(signer)
        if signer not in taken or _augment(taken[signer], signers, taken, seen):
            taken[signer] = authority
            return True
    return False
