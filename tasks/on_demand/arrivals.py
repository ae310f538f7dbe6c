"""Blobs on their way in, for who waits for their first byte."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from tasks.context.mirror_run import Live

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName

_Key = tuple[str, "Digest"]


class NotArrived(MirrorflowError):
    """The image was given up before the blob's turn came; the next request begins anew."""

    retryable = True


class TookTooLong(MirrorflowError):
    """An operation on demand ended after the entry's syncTimeout; what has arrived is kept."""


@dataclass
class Arrivals:
    """One future a repository and blob, done when bytes of it arrive. Thread-safe.

    `roots`: first parts of names that have a storage root of their own. Within one root a blob arrives for
    all repositories at once, whoever fetches it.
    """

    roots: frozenset[str] = frozenset()
    _waiting: dict[_Key, dict[RepositoryName, Future[None]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, local: RepositoryName, digest: Digest) -> tuple[Future[None], bool]:
        """The future, and whether it is new: then somebody has to fetch the blob."""
        with self._lock:
            waiting = self._waiting.setdefault(self._key(local, digest), {})
            new = local not in waiting
            return waiting.setdefault(local, Future()), new

    def moved(self, local: RepositoryName, digest: Digest) -> None:
        """Bytes have arrived."""
        with self._lock:
            for future in self._waiting.get(self._key(local, digest), {}).values():
                if not future.done():
                    future.set_result(None)

    def copied(self, local: RepositoryName, digest: Digest) -> None:
        """It is in this repository."""
        self.moved(local, digest)
        self._forget(local, digest)

    def failed(self, local: RepositoryName, digest: Digest, error: MirrorflowError) -> None:
        future = self._forget(local, digest)
        if future is not None and not future.done():
            future.set_exception(error)

    def given_up(self, local: RepositoryName, digest: Digest, expected: Future[None]) -> None:
        """Whoever got `expected` will not fetch the blob; what somebody expects since then is not touched."""
        with self._lock:
            if self._waiting.get(self._key(local, digest), {}).get(local) is not expected:
                return
        self.failed(local, digest, NotArrived(f"{local}: {digest} did not arrive"))

    def _forget(self, local: RepositoryName, digest: Digest) -> Future[None] | None:
        with self._lock:
            key = self._key(local, digest)
            waiting = self._waiting.get(key, {})
            future = waiting.pop(local, None)
            if not waiting:
                self._waiting.pop(key, None)
            return future

    def _key(self, local: RepositoryName, digest: Digest) -> _Key:
        first = local.partition("/")[0]
        return (first if first in self.roots else "", digest)


@dataclass
class WatchedLive(Live):
    """Of one image on demand: requests that wait for its blobs are woken."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    local: RepositoryName = field(default=None)  # type: ignore[assignment] # always given
    seconds: float = float("inf")
    _began: float = field(default_factory=time.monotonic)

    def moved(self, digest: Digest, count: int) -> None:
        """Raises `TookTooLong`."""
        super().moved(digest, count)
        if time.monotonic() - self._began > self.seconds:
            raise TookTooLong(f"{self.local}: not complete after {self.seconds:g} s (syncTimeout)")
        self.arrivals.moved(self.local, digest)

    def copied(self, digest: Digest) -> None:
        self.arrivals.copied(self.local, digest)

    def copy_failed(self, digest: Digest, error: MirrorflowError) -> None:
        self.arrivals.failed(self.local, digest, error)
