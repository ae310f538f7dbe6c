"""Warnings: what a profile may say, and probably does not mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.vocabulary import Remark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model import Profile
    from profiles.vocabulary import Vocabulary


def advise(profile: Profile, words: Vocabulary) -> Iterator[Remark]:
    """Everything worth a word, in no particular order."""
    if not profile.sync.registries:
        yield Remark(words.place(("sync",)), "sync", "nothing is mirrored", "add sync.registries")
