"""The profiles that come with the package."""

from __future__ import annotations

from pathlib import Path

from profiles.errors import ProfileUnreadable

_FOLDER = Path(__file__).parent


def shipped_profiles() -> tuple[str, ...]:
    """Their names, in ASCII order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def shipped_profile(name: str) -> Path:
    """The file of one of them, by its name (`demo`). Raises `ProfileUnreadable`."""
    path = _FOLDER / f"{name}.yaml"
    if name not in shipped_profiles():
        raise ProfileUnreadable(
            f"no profile {name!r} comes with mirrorflow; there are: {', '.join(shipped_profiles())}"
        )
    return path
