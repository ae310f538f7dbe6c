"""A file of JSON lines that several processes append to, and that logrotate may move away at any time."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LONGEST: Final = 4096
"""Bytes of a line: as many reach a pipe undivided (PIPE_BUF). Texts of others are cut for it."""
_STDOUT: Final = ("-", "/dev/stdout")
_MODE: Final = 0o640
log = logging.getLogger("mirrorflow.audit")


class AppendLog:
    """Thread-safe. A line is one write with O_APPEND, so lines of several processes are never mixed.

    Before each line it is looked whether the path still names the open file; if not, it is made anew.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = None if str(path) in _STDOUT else path
        self._lock = threading.Lock()
        self._fd = 1
        self._identity: tuple[int, int] | None = None
        self._fails = self._is_torn = False
        if self._path is not None:
            self._open()

    def write(self, fields: Mapping[str, Any]) -> None:
        """Never raises: who is served is served, and the log says that a line is missing."""
        line = line_of(fields)
        with self._lock:
            try:
                self._follow()
                self._append(b"\n" + line if self._is_torn else line)
                self._fails = False
            except OSError as error:
                if not self._fails:
                    log.error("%s cannot be written: %s", self._path, error)  # noqa: TRY400 - it says it all
                self._fails = True

    def _append(self, data: bytes) -> None:
        """Where a disk becomes full, a part of a line is written; the next one does not continue it."""
        self._is_torn = os.write(self._fd, data) < len(data)
        if self._is_torn:
            raise OSError(errno.ENOSPC, "only a part of a line was written")

    def _follow(self) -> None:
        if self._path is None:
            return
        with suppress(FileNotFoundError):
            status = self._path.stat()
            if (status.st_dev, status.st_ino) == self._identity:
                return
        self._open()

    def _open(self) -> None:
        assert self._path is not None, "standard output is open"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        opened = os.open(self._path, flags, _MODE)
        if self._identity is not None:
            os.close(self._fd)
        status = os.fstat(opened)
        self._fd, self._identity = opened, (status.st_dev, status.st_ino)


def line_of(fields: Mapping[str, Any]) -> bytes:
    """ASCII, with its end. Texts are cut as far as is needed: a character takes up to 12 bytes."""
    line = json.dumps(fields, separators=(",", ":"))
    for longest in (100, 20):
        if len(line) < LONGEST:
            break
        line = json.dumps({name: _cut(value, longest) for name, value in fields.items()})
    return line.encode("ascii") + b"\n"


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value[:longest]
    return [_cut(each, longest) for each in value[:3]] if isinstance(value, list) else value
