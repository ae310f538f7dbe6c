"""Who may do what at a time: turns by name, roles, and leases, across processes and hosts.

All of it ends with the process that holds it, however that ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from registry_server.store.filesystem.process_identity import ProcessIdentity


class Turns(Protocol):
    """The turns of one storage root. Shared by all threads of a process; two threads are two holders.

    A name is a relative text, by custom a key of the objects that it is about. Raises OSError (a folder) or
    `StoreError`. A turn that was lost while it was held (a cut connection) raises `StoreError` at the end of
    its block at the latest.
    """

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Waits until nobody else has a turn of this name. New ones `among_others` wait meanwhile: they
        cannot keep it waiting for ever."""
        ...

    def among_others(self, name: str) -> AbstractContextManager[None]:
        """Any number at once, and none while one has the turn `alone`."""
        ...

    def claim(self, role: str) -> AbstractContextManager[None]:
        """Hold a role that one process at a time may have. Does not wait.

        Raises `StoreLocked` with the holder.
        """
        ...

    def is_claimed(self, role: str) -> bool:
        """Whether somebody holds the role. Asking gets in nobody's way."""
        ...

    def claimant(self, role: str) -> ProcessIdentity | None:
        """The process that holds the role; None when none does, or when it is not known."""
        ...

    def lease(self) -> AbstractContextManager[None]:
        """Protect from the collector whatever is written from now on, until the block ends."""
        ...

    def oldest_lease(self) -> float | None:
        """When the oldest lease that is held began, by `Objects.now`; None when there is none."""
        ...
