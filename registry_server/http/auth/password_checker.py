"""Checking passwords without holding up anybody else.

bcrypt takes a tenth of a second on purpose, so it runs in threads of its own, few at a time; a success is
remembered for a minute under a keyed hash; a failure costs its sender a delay, and no more of ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import bcrypt
from cachetools import TTLCache

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.http.auth.htpasswd import PasswordFile

_REMEMBERED = 60.0  # seconds
_MOST_REMEMBERED = 1024
_MOST_WAITING = 256
_MOST_WAITING_OF_ONE = 16
_LONGEST = 72  # bytes; bcrypt never looked at more, and its library refuses them now


class TooManyAttempts(MirrorflowError):
    """Attempts to sign in that are being checked or have just failed; more have to wait."""

    retryable = True


class PasswordChecker:
    """Who signs in with which password. One for each process; for its event loop."""

    def __init__(
        self, file: PasswordFile, fail_delay: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file, self._fail_delay = file, fail_delay
        self._secret = os.urandom(32)
        self._known: TTLCache[bytes, None] = TTLCache(_MOST_REMEMBERED, _REMEMBERED, clock)
        self._waiting: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="bcrypt")

    def knows(self, user: str) -> bool:
        """Whether there is such a user, at this moment."""
        return self._file.hash_of(user) is not None

    async def check(self, user: str, password: str, client: str) -> bool:
        """Whether it is the user's password; a wrong one takes the delay longer.

        Takes the same time for a user that is not there. Raises `TooManyAttempts`; `client` is the address,
        so that one who guesses does not lock out the others.
        """
        stored = self._file.hash_of(user)
        mark = self._mark(user, password, stored or b"")
        if stored is not None and mark in self._known:
            return True
        with self._in_line(client):
            hashed = stored or self._file.dummy_hash
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._threads, _matches, password, hashed)
            if right and stored is not None:
                self._known[mark] = None
                return True
            await asyncio.sleep(self._fail_delay)
        return False

    def _mark(self, user: str, password: str, stored: bytes) -> bytes:
        """Another one when the file has another hash: a change of the password counts at once."""
        digest = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in (user.encode("utf-8", "surrogateescape"), password.encode(), stored):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    @contextmanager
    def _in_line(self, client: str) -> Iterator[None]:
        if self._waiting[client] >= _MOST_WAITING_OF_ONE or self._waiting.total() >= _MOST_WAITING:
            raise TooManyAttempts("too many attempts to sign in at once; try again later")
        self._waiting[client] += 1
        try:
            yield
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]


def _matches(password: str, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:_LONGEST], hashed)
    except ValueError:
        return False
