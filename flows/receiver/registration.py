"""A receiver's record in the store, by which registry servers find it: renewed for as long as it runs."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from registry_server.oci.errors import MirrorflowError
from registry_server.store.mirror_state.receivers import RENEWED_EVERY

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from registry_server.store.mirror_state.receivers import ReceiverRecords

log = logging.getLogger("mirrorflow.on_demand")
# Seconds without a beat after which another receiver removes a record. If that one lives, it writes it again.
_FORGOTTEN_AFTER: Final = 3600.0


class Registration:
    """The record of the receiver at `url` during the block. Raises `StoreError` when it cannot be written.

    Later on, what goes wrong is logged and tried again: servers ask for a while whom they know.
    """

    def __init__(
        self,
        records: ReceiverRecords,
        url: str,
        *,
        every: float = RENEWED_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records, self._url, self._every, self._clock = records, url, every, clock
        self._ended = threading.Event()
        self._seen: dict[str, tuple[str, float]] = {}
        self._thread = threading.Thread(target=self._renew_until_ended, name="registration", daemon=True)

    def __enter__(self) -> Self:
        self._records.renew(self._url)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self._records.remove(self._url)
        except MirrorflowError as left:
            log.warning("the record of this receiver stays in the store: %s", left)

    def _renew_until_ended(self) -> None:
        said = ""
        while not self._ended.wait(self._every):
            try:
                self._records.renew(self._url)
                self.forget_lost()
                said = ""
            except MirrorflowError as error:
                if str(error) != said:
                    log.warning("the record of this receiver cannot be renewed: %s", error)
                said = str(error)

    def forget_lost(self) -> None:
        """Remove the records of receivers that were killed an hour ago. Raises `StoreError`."""
        now, beats = self._clock(), self._records.beats()
        self._seen = {
            url: self._seen[url] if self._seen.get(url, ("",))[0] == beat else (beat, now)
            for url, beat in beats.items()
        }
        for url, (_, since) in self._seen.items():
            if url != self._url and now - since > _FORGOTTEN_AFTER:
                self._records.remove(url)
