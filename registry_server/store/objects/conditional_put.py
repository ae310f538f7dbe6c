"""Putting an object on a condition, so that of several writers one wins, and knows it.

A conditional request must not simply be repeated: the first one may have been carried out although its
answer got lost, and then the second one meets its own object. So after an answer that leaves it open, the
object is read, and tells which of both it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from registry_server.store.objects.bucket import check_process, version_of
from registry_server.store.objects.objects import Conflict
from registry_server.store.objects.storage_errors import Answer, store_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore import PutMode

    from registry_server.store.objects.bucket import Bucket
    from registry_server.store.objects.storage_driver import Client, RetryLimits


@dataclass(frozen=True, slots=True)
class ConditionalPut:
    """One put. `instead_of`: the version that it replaces; None: only where there is no object."""

    bucket: Bucket
    key: str
    content: bytes
    instead_of: str | None

    def run(self) -> str | None:
        """The new version, where it was told. Raises `Conflict` when another writer was faster, `StoreError`.

        Two writers that put the same bytes, and whose answers were lost, may both take themselves for the
        winner: whoever must be the only one puts something that tells him apart.
        """
        check_process()
        is_first = True
        for pause in _pauses(self.bucket.driver.limits):
            error = self._attempt(certain=is_first)
            if error is None or isinstance(error, str):
                return error
            if self._is_ours():
                return None
            is_first = False
            if pause is None:
                raise store_error(error, self.bucket.driver, self.key) from None
            time.sleep(pause)
        raise AssertionError("the last pause is None")

    def _attempt(self, *, certain: bool) -> Exception | str | None:
        """The new version, or an error that leaves open what became of it.

        `certain`: no attempt before this one left it open.
        """
        mode = self._mode()
        try:
            put = self.bucket.once.put(self.key, self.content, mode=mode, use_multipart=False)
        except (BaseError, OSError) as error:
            refused = isinstance(error, AlreadyExistsError | PreconditionError)
            if Answer.of(error).is_unknown or (refused and not certain):
                return error
            if refused:
                raise self._conflict() from None
            raise store_error(error, self.bucket.driver, self.key) from None
        return put["e_tag"]

    def _is_ours(self) -> bool:
        """Whether what is there is what we put; raises `Conflict` when it is neither that nor as before."""
        found = self.bucket.ask(self.key, self._whole)
        if found is not None and found[1] == self.content:
            return True
        if (found[0] if found else None) != self.instead_of:
            raise self._conflict()
        return False

    def _whole(self, client: Client) -> tuple[str, bytes]:
        found = client.get(self.key)
        return version_of(found.meta), bytes(found.bytes())

    def _mode(self) -> PutMode:
        if self.instead_of is None:
            return "create"
        if self.bucket.driver.name != "gcs":
            return {"e_tag": self.instead_of}
        # Google's condition is the generation, which a listing does not tell: it is looked up by the ETag.
        meta = self.bucket.ask(self.key, lambda client: client.head(self.key))
        if meta is None or version_of(meta) != self.instead_of:
            raise self._conflict()
        return {"e_tag": meta["e_tag"], "version": meta["version"]}

    def _conflict(self) -> Conflict:
        found = "exists already" if self.instead_of is None else "was changed by another writer"
        return Conflict(f"{self.bucket.driver.where}/{self.key} {found}; read it again, and decide anew")


def _pauses(limits: RetryLimits) -> Iterator[float | None]:
    """How long to wait after each attempt; None after the last one."""
    deadline = time.monotonic() + limits.seconds
    for attempt in range(limits.times):
        pause = min(limits.first_pause * 2**attempt, limits.longest_pause)
        if time.monotonic() + pause >= deadline:
            break
        yield pause
    yield None
