"""The password file: `user:$2y$…` lines, as `htpasswd -B` makes them. Only bcrypt is taken."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from registry_server.http.auth.access_options import AccessUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_log = logging.getLogger("registry_server.access")
_BCRYPT = re.compile(rb"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_LARGEST = 16 * 1024 * 1024
_DEFAULT_COST = 10


class PasswordFile:
    """Users and the hashes of their passwords; read anew as soon as the file is another one.

    Raises `AccessUnusable` when it cannot be used at the start. Later on a file that cannot be read lets
    nobody in, and the log says so: who takes a file away means to lock out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._seen = file_identity(path)
            found = path.read_bytes()
        except OSError as error:
            raise AccessUnusable(f"cannot read the password file {path}: {error.strerror}") from error
        self._take(dict(_users(found, path)))

    def hash_of(self, user: str) -> bytes | None:
        """The bcrypt hash of the user's password; None for an unknown user."""
        self._refresh()
        return self._hashes.get(user)

    @property
    def dummy_hash(self) -> bytes:
        """What to check the password of an unknown user against: it takes as long as a known one's."""
        return self._dummy

    def _refresh(self) -> None:
        try:
            now = file_identity(self._path)
            if now == self._seen:
                return
            self._seen = now  # also when it is broken: said once, and looked at again when it changes
            self._take(dict(_users(self._path.read_bytes(), self._path)))
        except (OSError, AccessUnusable) as error:
            if self._hashes:
                _log.error("%s; no user can sign in", error)
            self._take({})

    def _take(self, hashes: dict[str, bytes]) -> None:
        self._hashes, self._dummy = hashes, _dummy_hash(hashes)


def file_identity(path: Path) -> tuple[int, ...] | None:
    """Another one for another file; None when it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _users(content: bytes, path: Path) -> Iterator[tuple[str, bytes]]:
    if len(content) > _LARGEST:
        raise AccessUnusable(f"the password file {path} is larger than {_LARGEST >> 20} MiB")
    seen = set()
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        user, _, hashed = text.partition(b":")
        if not user or not _BCRYPT.fullmatch(hashed):
            raise AccessUnusable(
                f"the password file {path}, line {number}: not a user with a bcrypt hash; "
                "write lines with `htpasswd -B`"
            )
        if user in seen:
            raise AccessUnusable(f"the password file {path}, line {number}: this user is in the file twice")
        seen.add(user)
        yield user.decode("utf-8", "surrogateescape"), hashed


def _dummy_hash(hashes: Mapping[str, bytes]) -> bytes:
    """With the cost that most users have. No password has it: nobody computed it from one."""
    costs = [int(hashed[4:6]) for hashed in hashes.values()]
    cost = max(set(costs), key=lambda each: (costs.count(each), each), default=_DEFAULT_COST)
    return b"$2b$%02d$%s" % (cost, b"." * 53)
