"""Objects as files below one folder. What a process does to them survives a crash as its durability says.

Every name counts only as a regular file, so that a symbolic link planted in the store leads nowhere.
"""

# Texts instead of Path objects, as in filesystem/disk.py.
# ruff: noqa: PTH116, PTH120

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final, TypeVar

from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.locks import lock_alone
from registry_server.store.filesystem.stat_cache import StatCache
from registry_server.store.objects.objects import Conflict, Names, ObjectInfo, StoredObject, UploadAtEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from registry_server.store.filesystem.disk import Disk

Value = TypeVar("Value")

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_PIECE: Final = 1 << 20
_NO_FILE: Final = ObjectInfo(-1, 0.0)
_CHANGES: Final = "locks/changes"  # held while a conditional put compares and replaces


class FolderObjects:
    """`Objects` in the folder of a disk. Methods raise OSError."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._base = f"{disk.root}/"
        self._cache = StatCache()

    @property
    def where(self) -> str:
        return self._disk.root

    def get(self, key: str) -> StoredObject | None:
        content = files.read(self._base + key)
        return None if content is None else StoredObject(content, _version(content))

    def parsed(
        self,
        key: str,
        parse: Callable[[bytes], Value | None],
        *,
        immutable: bool = False,  # noqa: ARG002 - a stat takes no time, and sees damage
    ) -> Value | None:
        return self._cache.file(self._base + key, parse)

    def path(self, key: str) -> str:
        return os.path.abspath(self._base + key)  # noqa: PTH100 - texts, as in all of the store

    def look(self, key: str) -> ObjectInfo | None:
        try:
            found = os.lstat(self._base + key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ObjectInfo(found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) else None

    def infos(self, *keys: str) -> dict[str, ObjectInfo]:
        return {key: found for key in keys if (found := self.look(key))}

    def present(self, folder: str, names: Collection[str]) -> set[str]:
        return {name for name in names if files.is_file(f"{self._base}{folder}/{name}")}

    def contents(self, folder: str) -> Iterator[tuple[str, bytes]]:
        with files.open_folder(self._base + folder) as fd:
            for name in sorted(files.names_in(fd)):
                content = files.read(name, dir_fd=fd)
                if content is not None:
                    yield name, content

    def leave_snapshot(self, folder: str) -> None:
        """To read a file takes no time."""

    def names(self, folder: str) -> Names:
        objects: list[str] = []
        folders: list[str] = []
        for name, info in self._scan(folder):
            (folders if info is None else objects).append(name)
        return Names(tuple(objects), tuple(folders))

    def page(
        self, folder: str, wanted: Callable[[str], bool], *, last: str = "", limit: int | None = None
    ) -> list[str]:
        found = self._cache.folder(self._base + folder, wanted)
        return found.page(last=last, limit=limit) if found else []

    def walk(self, folder: str) -> Iterator[tuple[str, ObjectInfo]]:
        for name, info in self._scan(folder, stat_files=True):
            key = f"{folder}/{name}"
            if info is None:
                yield from self.walk(key)
            elif info.size >= 0:
                yield key, info

    def _scan(self, folder: str, *, stat_files: bool = False) -> list[tuple[str, ObjectInfo | None]]:
        """Names in a folder, with no info for a folder."""
        with files.open_folder(self._base + folder) as fd:
            if fd is None:
                return []
            with os.scandir(fd) as entries:
                return [
                    (
                        each.name,
                        None
                        if each.is_dir(follow_symlinks=False)
                        else (_info(each) if stat_files else _NO_FILE),
                    )
                    for each in entries
                ]

    def has_objects(self, folder: str) -> bool:
        return files.has_entry(self._base + folder)

    def has_folder(self, folder: str) -> bool:
        return files.is_folder(self._base + folder)

    def folder_version(self, folder: str) -> str:
        try:
            return str(os.stat(self._base + folder).st_mtime_ns)
        except FileNotFoundError:
            return ""

    def descriptor(self, key: str) -> int | None:
        return os.open(self._base + key, _READ)

    def pieces(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        fd = os.open(self._base + key, _READ)
        try:
            until = os.fstat(fd).st_size if stop is None else stop
            while start < until and (piece := os.pread(fd, min(_PIECE, until - start), start)):
                yield piece
                start += len(piece)
        finally:
            os.close(fd)

    def url(self, key: str, seconds: float) -> str | None:  # noqa: ARG002 - `Objects` has them
        return None

    def put(
        self,
        key: str,
        content: bytes,
        *,
        new: bool = False,
        instead_of: str | None = None,
        immutable: bool = False,
        settled: bool = False,
    ) -> None:
        staged = self._disk.stage(content, mode=0o444 if immutable else 0o644, immutable=immutable)
        try:
            if settled:
                self._disk.flusher.phase()  # the staged file goes along, and needs no sync of its own
            if new:
                self._disk.place_new(staged, self._base + key)
            elif instead_of is not None:
                self._replace(staged, key, instead_of)
            else:
                self._disk.place(staged, self._base + key)
        except BaseException as error:
            files.remove(staged)
            if new and isinstance(error, FileExistsError):
                raise Conflict(f"{self._base}{key} is there already") from None
            raise

    def _replace(self, staged: str, key: str, version: str) -> None:
        with lock_alone(self._disk, self._base + _CHANGES):
            held = self.get(key)
            if held is None or held.version != version:
                raise Conflict(f"{self._base}{key} was changed by another writer")
            self._disk.place(staged, self._base + key)

    def mark(self, *keys: str) -> None:
        for key in keys:
            self._disk.mark(self._base + key)

    def renew(self, *keys: str) -> set[str]:
        return {key for key in keys if files.touch(self._base + key)}

    def remove(self, *keys: str) -> None:
        for key in keys:
            files.remove(self._base + key)
        for folder in dict.fromkeys(os.path.dirname(self._base + key) for key in keys):
            with contextlib.suppress(FileNotFoundError):
                self._disk.flusher.folder(folder)

    def move(self, key: str, target: str) -> None:
        self._disk.rename(self._base + key, self._base + target)

    def upload(self, key: str, size: int) -> UploadAtEnd:  # noqa: ARG002 - `Objects` has it
        return UploadAtEnd(self, key)

    def take_in(self, key: str, path: str, fd: int) -> float:
        """A rename and not a link: there is never a second name through which the content could be changed,
        and it replaces a damaged file of that name."""
        os.fchmod(fd, 0o444)
        os.utime(fd)  # a resumed file may be old, and a garbage collector goes by age
        try:
            self._disk.flusher.content(fd)
        except BaseException:
            files.remove(path)  # it would read back well from memory, and nobody would sync it again
            raise
        self._disk.rename(path, self._base + key)
        return 0.0

    def settle(self) -> None:
        self._disk.flusher.phase()

    def now(self) -> float:
        return files.clock(f"{self._base}staging")


def _info(entry: os.DirEntry[str]) -> ObjectInfo:
    """Size -1 for what is no regular file, or gone by now."""
    with contextlib.suppress(FileNotFoundError):
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            return ObjectInfo(found.st_size, found.st_mtime)
    return _NO_FILE


def _version(content: bytes) -> str:
    """Of the content, like the ETag of object storage: times and inodes may be the same of two files."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
