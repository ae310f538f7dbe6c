"""Notice that the profile, or a file that it names, was changed, and not before the writer has finished."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.profile import Profile

_Signature = tuple[int, int, int]
_RETRY: Final = 5  # questions until a refused text is tried again


class ProfileWatch:
    """A profile, and the files that it names. Ask `changed()` about once a second.

    A link is followed: a Secret that Kubernetes mounts changes by a link that leads to another folder.
    """

    def __init__(self, path: Path) -> None:
        """Of the profile alone, until `accepted` says which files it names."""
        self._path = path
        self._seen: dict[Path, _Signature | None] = {path: _signature(path)}
        self._settled, self._content = dict(self._seen), {path: _content(path)}
        self._retry: int | None = None

    def accepted(self, profile: Profile) -> None:
        """The profile was taken over: from now on the files that it names are followed."""
        self._retry = None
        paths = (self._path, *named_files(profile))
        for path in set(paths) - self._seen.keys():
            self._seen[path] = self._settled[path] = _signature(path)
            self._content[path] = _content(path)
        for path in self._seen.keys() - set(paths):
            del self._seen[path], self._settled[path], self._content[path]

    def refused(self) -> None:
        """It could not be used: `changed` is true again in a while.

        What was wrong may be a file that comes later than the profile: a Secret and a ConfigMap of Kubernetes
        arrive minutes apart.
        """
        self._retry = _RETRY

    def changed(self) -> bool:
        """True once for each new content, when the files have looked the same for two questions.

        Editors write in steps, or put another file in its place; a file that is missing for a moment
        is not a change, and neither is one that was only touched.
        """
        before, self._seen = self._seen, {path: _signature(path) for path in self._seen}
        if self._seen[self._path] is None or self._seen != before:
            return False
        moved = [path for path, found in self._seen.items() if found != self._settled[path]]
        previous = {path: self._content[path] for path in moved}
        self._settled |= {path: self._seen[path] for path in moved}
        self._content |= {path: _content(path) for path in moved}
        return any(self._content[path] != previous[path] for path in moved) or self._is_time_to_retry()

    def _is_time_to_retry(self) -> bool:
        if self._retry is None:
            return False
        self._retry -= 1
        return self._retry <= 0


def named_files(profile: Profile) -> tuple[Path, ...]:
    """Every file that the profile reads, in its order and each once; not what it writes: store and logs."""
    found = (*_paths(profile.trust), *_paths(profile.verify), *_paths(profile.sync), *_paths(profile.http))
    return tuple(dict.fromkeys(path for path in found if path != profile.sync.download_dir))


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


def _signature(path: Path) -> _Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _content(path: Path) -> bytes | None:
    """Of a folder (certDir), the names and the content of its files."""
    digest = hashlib.sha256()
    try:
        for each in sorted(path.iterdir()) if path.is_dir() else [path]:
            if each.is_file():
                digest.update(each.name.encode() + b"\0" + each.read_bytes())
        return digest.digest()
    except OSError:
        return None
