"""The profile that a running `up` has taken over, which the file on disk may no longer be.

A run loads its profile itself. While somebody edits the file, runs go on with the last good text,
which the runner keeps beside Prefect's database and names to them in their environment.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from profiles.loader import load_profile, parse_profile, read_text
from registry_server.oci.errors import MirrorflowError
from registry_server.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from profiles.loader import LoadedProfile
    from profiles.model.server.storage import Storage

VARIABLE = "MIRRORFLOW_ACCEPTED_PROFILE"


def load_accepted(path: Path, environment: Mapping[str, str] | None = None) -> LoadedProfile:
    """The profile at `path` as `up` last accepted it; without an `up` around this process, the file.

    Relative paths begin at the folder of `path` either way. Raises what `load_profile` raises.
    """
    kept = _accepted_copy(path, os.environ if environment is None else environment)
    return load_profile(path) if kept is None else parse_profile(kept, path)


def accepted_text(path: Path) -> str:
    """The text of `load_accepted`. Raises what `load_profile` raises."""
    kept = _accepted_copy(path, os.environ)
    return read_text(path) if kept is None else kept


def _accepted_copy(path: Path, environment: Mapping[str, str]) -> str | None:
    accepted = json.loads(environment.get(VARIABLE, "{}"))
    if accepted.get("path") != str(path):
        return None
    with open(accepted["copy"], encoding="utf-8") as copy:  # noqa: PTH123 - a text from the environment
        return copy.read()


class StorageChanged(MirrorflowError):
    """A running `up` serves one store, and cannot move to another."""


def accept(
    path: Path, folder: Path, *, storage: Storage | None = None
) -> tuple[LoadedProfile, dict[str, str]]:
    """Load `path` and keep its text in `folder`; also returns the variable that leads runs to it.

    Raises what `load_profile` raises, or StorageChanged when it names another store than `storage`;
    then the text that was kept before stays.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        loaded = load_profile(path)  # says what is wrong with the file
        text = path.read_text(encoding="utf-8-sig")
    loaded = parse_profile(text, path)
    if storage is not None and loaded.profile.storage != storage:
        raise StorageChanged(f"{path}: `storage` has changed: restart `mirrorflow up` to apply that")
    copy = folder / f"accepted{path.suffix}"
    write_whole(copy, text.encode())
    return loaded, {VARIABLE: json.dumps({"path": str(path), "copy": str(copy)})}
