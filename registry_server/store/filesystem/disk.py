"""The few things that the store does to files, each atomic: write whole, mark, read, remove.

Every name is opened with O_NOFOLLOW and counts only as a regular file, so that a symbolic link planted in
the store leads nowhere (reference: oras CVE-2026-50163, CVE-2021-21272).
"""

# Texts instead of Path objects: building those costs more than the system calls of a read.
# ruff: noqa: PTH102, PTH104, PTH116, PTH108, PTH112, PTH120, PTH208

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from registry_server.store.filesystem.durability import Durability, Flusher

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CHUNK: Final = 1 << 20


class Disk:
    """Files under one storage root. Paths are absolute texts; all methods raise OSError."""

    def __init__(self, root: str, durability: Durability) -> None:
        self.root = root
        self.flusher = Flusher(root, durability)

    def write(self, path: str, content: bytes, *, mode: int = 0o644, immutable: bool = False) -> None:
        """Put a whole file in place of whatever is there. `immutable`: content of the pool."""
        staged = self.stage(content, mode=mode, immutable=immutable)
        self.place(staged, path)

    def write_if_changed(self, path: str, content: bytes) -> None:
        if read(path) != content:
            self.write(path, content)

    def stage(self, content: bytes, *, mode: int = 0o644, immutable: bool = False, intent: str = "") -> str:
        """Write a file that nobody sees yet; `place` gives it its name. `intent` is a part of its own."""
        staged = f"{self.root}/staging/{os.getpid()}-{secrets.token_hex(8)}{intent and '.'}{intent}"
        fd = self._open(staged, _NEW, mode)
        try:
            write_all(fd, content, 0)
            (self.flusher.content if immutable else self.flusher.record)(fd)
        except BaseException:
            remove(staged)
            raise
        finally:
            os.close(fd)
        return staged

    def place(self, staged: str, path: str) -> None:
        """Move a file of this root to `path`; a staged file that cannot be placed is removed."""
        try:
            self._rename(staged, path)
        except BaseException:
            remove(staged)
            raise
        self.flusher.folder(os.path.dirname(path))

    def place_new(self, staged: str, path: str) -> None:
        """Like `place`, where nothing is yet. Raises FileExistsError; then the staged file stays."""
        try:
            os.link(staged, path, follow_symlinks=False)
        except FileNotFoundError:
            self.make_folder(os.path.dirname(path))
            os.link(staged, path, follow_symlinks=False)
        remove(staged)
        self.flusher.folder(os.path.dirname(path))

    def rename(self, source: str, path: str) -> None:
        """Like `place`, but a file that cannot be moved stays where it is."""
        self._rename(source, path)
        self.flusher.folder(os.path.dirname(path))

    def mark(self, path: str) -> None:
        """Make the empty file `path`, if it is not there."""
        try:
            os.close(self._open(path, _NEW, 0o444))
        except FileExistsError:
            if is_file(path):
                return
            remove(path)  # a planted link would be a marker that nobody made
            os.close(self._open(path, _NEW, 0o444))
        self.flusher.folder(os.path.dirname(path))

    def remove(self, path: str) -> None:
        remove(path)
        self.flusher.folder(os.path.dirname(path))

    def open_in(self, path: str, flags: int, mode: int) -> int:
        """Open a file whose folder may not exist yet."""
        return self._open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    def make_folder(self, path: str) -> None:
        """Below a root that still is one: where a volume is unmounted, nothing is begun anew."""
        if not is_file(f"{self.root}/format.json"):
            raise FileNotFoundError(errno.ENOENT, "the store is gone", self.root)
        self.make_first_folder(path)

    def make_first_folder(self, path: str) -> None:
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.mkdir(folder)
            self.flusher.folder(os.path.dirname(folder))

    def _open(self, path: str, flags: int, mode: int) -> int:
        try:
            return os.open(path, flags, mode)
        except FileNotFoundError:
            self.make_folder(os.path.dirname(path))
            return os.open(path, flags, mode)

    def _rename(self, source: str, path: str) -> None:
        try:
            os.rename(source, path)
        except FileNotFoundError:
            self.make_folder(os.path.dirname(path))
            os.rename(source, path)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def touch(path: str) -> bool:
    """Make a regular file young, for a collector goes by age; False when it is not there."""
    try:
        os.utime(path, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):  # nobody collects there either
            raise
    return is_file(path)


def file_size(path: str) -> int | None:
    """Bytes of a regular file; None when there is none."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def modified(path: str) -> float | None:
    """When it was last written, in unix seconds; None when it is not there."""
    try:
        return os.lstat(path).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_file(path: str) -> bool:
    return file_size(path) is not None


def read(path: str, *, dir_fd: int | None = None) -> bytes | None:
    """A whole small file; None when there is no regular file of that name."""
    try:
        fd = os.open(path, _READ, dir_fd=dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a planted link, because of O_NOFOLLOW
            return None
        raise
    try:
        size = os.fstat(fd).st_size
        # One more byte than expected saves the call that would only say "end of file".
        content = os.read(fd, size + 1)
        while len(content) < size and (more := os.read(fd, size - len(content))):
            content += more
    except IsADirectoryError:
        return None
    else:
        return content
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write at `offset`; the kernel may take less than it is given, e.g. on a disk that is nearly full."""
    with memoryview(data) as whole, whole.cast("B") as view:
        done = 0
        while done < len(view):
            done += os.pwrite(fd, view[done:], offset + done)


def chunks(fd: int, stop: int) -> Iterator[memoryview]:
    """The file's bytes from the beginning up to `stop`; each piece is valid until the next one."""
    buffer = memoryview(bytearray(min(_CHUNK, max(stop, 1))))
    offset = 0
    while offset < stop:
        count = os.preadv(fd, [buffer[: stop - offset]], offset)
        if not count:
            return
        yield buffer[:count]
        offset += count


@contextlib.contextmanager
def open_folder(path: str) -> Iterator[int | None]:
    """An open folder; None when there is none, or a link in its place."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def names(path: str) -> list[str]:
    """Names in a folder, in no order."""
    with open_folder(path) as fd:
        return names_in(fd)


def names_in(fd: int | None) -> list[str]:
    return [] if fd is None else os.listdir(fd)


def is_folder(path: str) -> bool:
    return os.path.isdir(path)


def has_entry(path: str) -> bool:
    """Whether anything is in the folder."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def clock(folder: str) -> float:
    """Unix seconds by the clock that files in this folder are dated with."""
    os.utime(folder)
    return os.stat(folder).st_mtime


def remove_if_older(path: str, than: float) -> None:
    """Remove a file that was last written before the unix time `than`, if we may."""
    with contextlib.suppress(OSError):  # another process cleans too, or the store is read-only
        if os.lstat(path).st_mtime < than:
            os.unlink(path)
