"""Which files a profile names: keys, trust roots, revocation lists, certificates, credentials.

Their content is part of what the profile says, so whoever follows the profile follows them as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model import Profile


def named_files(profile: Profile) -> tuple[Path, ...]:
    """Every path in the profile, in its order and each once, except for the folders of the store."""
    found = (*_paths(profile.trust), *_paths(profile.verify), *_paths(profile.sync), *_paths(profile.http))
    return tuple(dict.fromkeys(found))


def _paths(value: Any) -> Iterator[Path]:
    """The models are walked, so that a new key with a path needs no line here."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _paths(getattr(value, name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from _paths(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _paths(each)
