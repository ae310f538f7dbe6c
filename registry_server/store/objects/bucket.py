"""Requests to one bucket: several at once, listings, and what became of them, as values or as our errors."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from obstore.exceptions import BaseError

from registry_server.store.errors import StoreError
from registry_server.store.objects.objects import ObjectInfo
from registry_server.store.objects.storage_errors import Answer, store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from obstore import ObjectMeta

    from registry_server.store.objects.storage_driver import Client, StorageDriver

Value = TypeVar("Value")
Result = TypeVar("Result")

_THREADS: Final = 16
_AT_A_TIME: Final = 1_000  # names that a listing answers at a time

_started_in: int | None = None
"""The process in which obstore was first used: its threads are not in children that are forked later."""


class Bucket:
    """The bucket of a driver. Connects when it is first used. Raises `StoreError`.

    `retrying` repeats by itself what may be repeated, `once` does not.
    """

    def __init__(self, driver: StorageDriver) -> None:
        self.driver = driver
        self.retrying = driver.client(retrying=True)
        self.once = driver.client(retrying=False)

    def ask(self, key: str, call: Callable[[Client], Result]) -> Result | None:
        """What the call gives; None where there is no object. Raises `StoreError`."""
        check_process()
        try:
            return call(self.retrying)
        except (BaseError, OSError) as error:
            if Answer.of(error).is_no_object:
                return None
            raise store_error(error, self.driver, key) from None

    def demand(self, key: str, call: Callable[[Client], Result]) -> Result:
        """What the call gives. That there is nothing is an error too. Raises `StoreError`."""
        check_process()
        try:
            return call(self.retrying)
        except (BaseError, OSError) as error:
            raise store_error(error, self.driver, key) from None

    def each(self, call: Callable[[Value], Result], values: Iterable[Value]) -> list[Result]:
        """What the call gives for each, several at once; raises the error of the first that fails."""
        values = list(values)
        if len(values) < 2:
            return [call(each) for each in values]
        return list(self._pool.map(call, values))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    def below(self, folder: str, after: str = "") -> Iterator[tuple[str, ObjectInfo]]:
        """All objects below a folder, those after `folder/after`; in ASCII order, as all three list them."""
        prefix, offset = folder or None, f"{folder}/{after}" if after else None
        pages = self.demand(folder, lambda client: client.list(prefix, offset=offset, chunk_size=_AT_A_TIME))
        while page := self.demand(folder, lambda _: next(pages, ())):
            for each in page:
                yield each["path"], info_of(each)

    def directly_in(self, folder: str, after: str = "") -> Iterator[tuple[str, ObjectInfo]]:
        """As `below`, without what is in folders of the folder."""
        begin = len(folder) + 1 if folder else 0
        return ((key, info) for key, info in self.below(folder, after) if "/" not in key[begin:])


def check_process() -> None:
    """obstore would wait for ever in a child: its threads stayed with the parent."""
    global _started_in  # noqa: PLW0603 - there is one obstore in a process
    if _started_in is None:
        _started_in = os.getpid()
    elif _started_in != os.getpid():
        raise StoreError(
            f"object storage was used by process {_started_in}, from which this one was forked; "
            "open the store in the child only, or start the child anew"
        )


def version_of(meta: ObjectMeta) -> str:
    """The ETag; without one, what else changes with each put."""
    return meta["e_tag"] or f"{meta['last_modified'].timestamp()}-{meta['size']}"


def info_of(meta: ObjectMeta) -> ObjectInfo:
    """What a listing, or HEAD, says of an object."""
    return ObjectInfo(meta["size"], meta["last_modified"].timestamp(), version_of(meta))
