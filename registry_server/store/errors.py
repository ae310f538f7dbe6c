"""The errors of the store, and the one border where those of the operating system become ours.

StoreError
├── StoreMissing         there is no store (any more), and none may be made
├── StoreTooNew          written by a later version of mirrorflow
├── StoreFull            no space, quota, or a limit on the size of files
├── StoreUnwritable      read-only, or no permission
├── StoreNotShareable    its file system does not show in time what other hosts do
├── StoreDamaged         a file is not what mirrorflow wrote there
├── StoreLocked          somebody else holds it
├── StoreUnreachable     object storage, or PostgreSQL, does not answer as it should
├── TurnLost             a turn ended before its holder was done
├── WaitCancelled        who waited was told to stop
├── ClosureIncomplete    a tag was to be set on an image that is not here in full
├── StillNeeded          what was to be deleted is a part of a tagged image
├── NothingToUndelete    no tag that was pruned, or another one in its place
└── TagMoved             a tag does not name what its writer believed
"""

from __future__ import annotations

import errno
import functools
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry_server.oci.digest import Digest
    from registry_server.store.filesystem.process_identity import ProcessIdentity

P = ParamSpec("P")
R = TypeVar("R")
_SHOWN = 5


class StoreError(MirrorflowError):
    """The store could not do what was asked; everything that it held before is still there."""


class StoreMissing(StoreError):
    pass


class StoreTooNew(StoreError):
    pass


class StoreFull(StoreError):
    pass


class StoreUnwritable(StoreError):
    pass


class StoreNotShareable(StoreError):
    """Garbage collection and pushes could lose content on this file system."""


class StoreDamaged(StoreError):
    pass


class StoreLocked(StoreError):
    """`holder` is the process that holds it, where it is known."""

    retryable = True

    def __init__(self, message: str, *, holder: ProcessIdentity | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class StoreUnreachable(StoreError):
    """Another attempt later may end differently."""

    retryable = True


class TurnLost(StoreError):
    """What was done under the turn may not have been done alone."""

    retryable = True


class WaitCancelled(StoreError):
    pass


class ClosureIncomplete(StoreError):
    """Invariant 1: a visible tag implies its whole closure. `missing` names what is not here."""

    # Fetching what is missing and doing it again ends differently.
    retryable = True

    def __init__(self, image: str, missing: Sequence[Digest]) -> None:
        shown = ", ".join(missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else "")
        super().__init__(
            f"{image}: the tag cannot be set, because {len(missing)} of the blobs and manifests "
            f"that it needs are not in this repository: {shown}"
        )
        self.missing = tuple(missing)


class StillNeeded(StoreError):
    """Invariant 1 again: what a visible tag stands on is deleted after the tag."""

    def __init__(self, image: str, digest: Digest) -> None:
        super().__init__(f"{image} needs {digest}; delete that tag first")


class NothingToUndelete(StoreError):
    """There is nothing under that name that prune removed and that could come back."""


class TagMoved(StoreError):
    """A conditional change came too late: somebody else changed the tag."""


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNWRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_DAMAGED: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EIO})


def from_os_error(error: OSError) -> StoreError:
    """The most specific of our errors for `error`, saying which file and what to do."""
    where = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    if error.errno in _FULL:
        return StoreFull(f"the store is full ({where}); free space or raise the quota, then run it again")
    if error.errno in _UNWRITABLE:
        return StoreUnwritable(f"the store refuses access ({where}); check owner, mode and mount options")
    if error.errno == errno.ENOENT:
        return StoreMissing(f"the store has disappeared ({where}); check that its volume is mounted")
    if error.errno in _DAMAGED:
        return StoreDamaged(f"the store is damaged ({where}); remove that file, and it is fetched again")
    return StoreError(f"the store failed ({where})")


def translated(function: Callable[P, R]) -> Callable[P, R]:
    """Every public operation of the store wears this: no bare `OSError` leaves the store."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise from_os_error(error) from error

    return guarded
