"""What the store needs of the place that it is in: objects by key, in a folder or in object storage.

A key is a relative text such as `repos/library/alpine/_r/tags/3.20`. It begins and ends without a slash, and
has no empty part and none that is `.` or `..`. A folder is the common beginning of keys, also without a slash
at its end. Nobody makes or removes a folder: it is there while an object is below it.

What is written can be read by all processes and hosts at once (strong consistency). An object is replaced as
a whole; a reader sees the old or the new content, never a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from registry_server.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

Value = TypeVar("Value")
_TRIES: Final = 20


class Conflict(StoreError):
    """A conditional `put` came too late: the object is another one by now."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """`size` in bytes, `modified` in unix seconds by the clock of the storage.

    `version` as of `StoredObject`, where a listing tells it; else "".
    """

    size: int
    modified: float
    version: str = ""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A small object as a whole. `version` is another text whenever the content is, e.g. its ETag."""

    content: bytes
    version: str


@dataclass(frozen=True, slots=True)
class Names:
    """The direct children of a folder: the last parts of their names, in no order."""

    objects: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


class Upload(Protocol):
    """A local file that arrives, and becomes an object once it is verified. Used by one thread.

    Nothing of it can be seen before `complete`. Raises as `Objects`.
    """

    def feed(self, fd: int, written: int) -> None:
        """So many bytes are in the file that is open as `fd`, and stay as they are. Takes no time."""
        ...

    def complete(self, path: str, fd: int) -> float:
        """See `Objects.take_in`."""
        ...

    def abort(self) -> None:
        """Read the file no more, and let nothing of it appear. It does nothing after `complete`."""
        ...


class Objects(Protocol):
    """The objects of one storage root. Shared by all threads of a process.

    Raises OSError (a folder) or `StoreError` (object storage) where the storage fails. What is absent is no
    error. Methods that take several keys may work on them at once.
    """

    @property
    def where(self) -> str:
        """The place, for messages: a path, or `s3://bucket/prefix`. Never has a credential."""
        ...

    # Reading

    def get(self, key: str) -> StoredObject | None:
        """A whole small object; None when there is none."""
        ...

    def parsed(
        self, key: str, parse: Callable[[bytes], Value | None], *, immutable: bool = False
    ) -> Value | None:
        """What `parse` makes of an object: the same value again for as long as the object is the same.

        A cheap question must decide that: a stat, a conditional GET. `parse` always makes the same of the
        same bytes, and what it raises is passed on. None: there is no object, or `parse` gave None.
        `immutable`: the content is named by its digest; object storage is not asked about it again.
        """
        ...

    def path(self, key: str) -> str | None:
        """The absolute path of the file that an object is, or would be; None where it is none."""
        ...

    def look(self, key: str) -> ObjectInfo | None:
        """What is known of an object without reading it; None when there is none."""
        ...

    def infos(self, *keys: str) -> dict[str, ObjectInfo]:
        """What is known of these, by their keys; what is not there is left out."""
        ...

    def present(self, folder: str, names: Collection[str]) -> set[str]:
        """Those of the names that there are objects of directly in the folder. Object storage asks once."""
        ...

    def contents(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """Last part of the name and content of every object directly in the folder, in ASCII order.

        Object storage asks for one listing, and reads only what has another version than it remembers.
        """
        ...

    def leave_snapshot(self, folder: str) -> None:
        """What this process has put into a folder since it last did so: others shall find its `contents`
        with few questions. Nothing for files."""
        ...

    def names(self, folder: str) -> Names:
        """The direct children of a folder; nothing for a folder that is not there."""
        ...

    def page(
        self, folder: str, wanted: Callable[[str], bool], *, last: str = "", limit: int | None = None
    ) -> list[str]:
        """At most `limit` names of objects directly in the folder, after `last`, in ASCII order.

        `wanted` is always the same for a folder, and says which names count. The cost of a page does not
        depend on how many names there are.
        """
        ...

    def walk(self, folder: str) -> Iterator[tuple[str, ObjectInfo]]:
        """Key and info of every object below a folder, however deep, in no order.

        The collector decides by it what nobody needs: what is missing without an error may be removed.
        """
        ...

    def has_objects(self, folder: str) -> bool:
        """Whether an object is below the folder."""
        ...

    def has_folder(self, folder: str) -> bool:
        """Whether an object is below the folder; on a disk also, whether one was."""
        ...

    def folder_version(self, folder: str) -> str:
        """Another text when an object directly in the folder was added or removed; "" for no folder."""
        ...

    def descriptor(self, key: str) -> int | None:
        """An open file of the content, which the caller closes; None where objects are no files.

        Raises FileNotFoundError when there is no object.
        """
        ...

    def pieces(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `stop` (default: the end), in pieces of at most 1 MiB, by one request.

        Raises FileNotFoundError when there is no object.
        """
        ...

    def url(self, key: str, seconds: float) -> str | None:
        """Where anybody may GET the object for so long (presigned); None where there is no such thing."""
        ...

    # Writing

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
        """Put a whole object in place of whatever is there.

        `new`: only if there is none. `instead_of`: only in place of this version. Both raise `Conflict`.
        `immutable`: content named by its digest; nobody shall change it. `settled`: whatever was written
        before is durable before this appears, whoever wrote it.
        """
        ...

    def mark(self, *keys: str) -> None:
        """Make these empty objects, where they are not there."""
        ...

    def renew(self, *keys: str) -> set[str]:
        """Make what is there of these young, as if it were written now; gives those that are there."""
        ...

    def remove(self, *keys: str) -> None:
        """Remove objects, which may be gone already. In this order, where that can be told."""
        ...

    def move(self, key: str, target: str) -> None:
        """Give an object another key; it replaces what is there. Object storage: copied, then removed."""
        ...

    def upload(self, key: str, size: int) -> Upload:
        """A local file of `size` bytes that becomes an object as by `take_in`, and is still being written."""
        ...

    def take_in(self, key: str, path: str, fd: int) -> float:
        """Make the local file `path`, open as `fd` and verified, an immutable object; the file is gone then.

        It replaces what is there, and appears only as a whole. It is as young as if it were written now, but
        for so many seconds.
        """
        ...

    def settle(self) -> None:
        """After a return, whatever was written before, by anybody, is durable. Object storage: at once."""
        ...

    def now(self) -> float:
        """Unix seconds by the clock of `ObjectInfo.modified`. May write."""
        ...


class UploadAtEnd:
    """`Upload` where nothing is to be done before the file is whole."""

    def __init__(self, objects: Objects, key: str) -> None:
        self._objects, self._key = objects, key

    def feed(self, fd: int, written: int) -> None:
        """Nothing."""

    def complete(self, path: str, fd: int) -> float:
        """See `Upload`."""
        return self._objects.take_in(self._key, path, fd)

    def abort(self) -> None:
        """Nothing."""


def update(
    objects: Objects,
    key: str,
    change: Callable[[bytes | None], bytes],
    *,
    known: StoredObject | None = None,
    probably_new: bool = False,
) -> None:
    """Put what `change` makes of the content, None where there is none: again, if another writer was faster.

    It is not read first where it is `known` from a while ago, or is `probably_new`.
    Raises `Conflict` when others are faster again and again.
    """
    held = known or (None if probably_new else objects.get(key))
    for _ in range(_TRIES):
        content = change(None if held is None else held.content)
        try:
            return objects.put(
                key, content, new=held is None, instead_of=None if held is None else held.version
            )
        except Conflict as error:
            conflict = error
            held = objects.get(key)
    raise conflict


def content_of(objects: Objects, key: str) -> bytes | None:
    """The content alone; None when there is no object."""
    found = objects.get(key)
    return None if found is None else found.content


def put_if_changed(objects: Objects, key: str, content: bytes) -> None:
    """Spare a write where the content is there already."""
    if content_of(objects, key) != content:
        objects.put(key, content)
