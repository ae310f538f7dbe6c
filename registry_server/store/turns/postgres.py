"""Turns for a store that several hosts share and that is in no folder: PostgreSQL's advisory locks.

Any database will do: no table is made, and nothing is stored. A lock is known by a number of 64 bits, a hash
of the store's uuid and the name (PostgreSQL, "Explicit Locking", 13.3.5 "Advisory Locks"). It ends with the
session, so with its process or its host. Nobody passes one who waits for an exclusive lock.

A process that was cut off from PostgreSQL and has not noticed yet goes on for a while as if it held its lock.
So what must not be overwritten is put with a condition as well (`Objects.put`, `instead_of`).
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

from registry_server.store.errors import StoreLocked, TurnLost
from registry_server.store.turns.postgres_sessions import AdvisoryLock, Sessions, Watch, identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.store.filesystem.process_identity import ProcessIdentity

_OUR_EPOCH: Final = 1_600_000_000  # so that seconds fit into 31 bits until 2088

# How a lock is taken, and how it is released.
_ALONE: Final = ("SELECT pg_advisory_lock(%s::bigint)", "SELECT pg_advisory_unlock(%s::bigint)")
_AMONG_OTHERS: Final = (
    "SELECT pg_advisory_lock_shared(%s::bigint)",
    "SELECT pg_advisory_unlock_shared(%s::bigint)",
)
_CLAIM: Final = ("SELECT pg_try_advisory_lock(%s::bigint)", "SELECT pg_advisory_unlock(%s::bigint)")
_HELD: Final = (
    " locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_HOLDER: Final = (
    "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE"  # noqa: S608 - constants
    + _HELD
    + " AND objsubid = 1 AND classid::bigint = %s AND objid::bigint = %s"
)
# A lease is a lock of two numbers: the store, and when it began. So the locks that are held are the list of
# leases, by one clock, and a lease that was lost is taken again as the one that it was.
_CLOCK: Final = f"(extract(epoch FROM clock_timestamp()) - {_OUR_EPOCH})"
_LEASE_BEGIN: Final = f"SELECT floor({_CLOCK})::int"
_LEASE: Final = (
    "SELECT pg_try_advisory_lock_shared(%s::int, %s::int)",
    "SELECT pg_advisory_unlock_shared(%s::int, %s::int)",
)
_LEASE_AGE: Final = (
    f"SELECT ({_CLOCK} - min(objid::bigint))::float8 FROM pg_locks WHERE"  # noqa: S608 - constants
    + _HELD
    + " AND objsubid = 2 AND classid::bigint = %s"
)


class PostgresTurns:
    """The turns of one store. Implements `Turns`; connects when it is first used."""

    def __init__(
        self,
        url: str,
        store: str,
        *,
        now: Callable[[], float],
        look_seconds: float = 5.0,
        retry_seconds: float = 20.0,
    ) -> None:
        """`store` is its uuid. `now` is the clock of the objects, which `oldest_lease` answers by.

        `look_seconds`: how often a role and a lease are looked after. `retry_seconds`: for how long a server
        that does not answer is tried again. Raises `StoreError` for a wrong URL.
        """
        self._sessions = Sessions(url, retry_seconds=retry_seconds)
        self._store = store
        self._now = now
        self._look_seconds = look_seconds

    @property
    def where(self) -> str:
        """For messages: host, port and database."""
        return self._sessions.where

    def alone(self, name: str) -> contextlib.AbstractContextManager[None]:
        """See `Turns`. Raises `StoreUnreachable`, and `TurnLost` at the end."""
        return self._turn(_ALONE, name)

    def among_others(self, name: str) -> contextlib.AbstractContextManager[None]:
        """See `Turns`. Raises `StoreUnreachable`, and `TurnLost` at the end."""
        return self._turn(_AMONG_OTHERS, name)

    @contextlib.contextmanager
    def _turn(self, functions: tuple[str, str], name: str) -> Iterator[None]:
        lock = AdvisoryLock(*functions, (self._key("turn", name),))
        session, _ = self._sessions.run(lock.take, lock.arguments)
        try:
            yield
        except BaseException:
            with contextlib.suppress(TurnLost):  # it would hide the error
                self._sessions.release(session, lock)
            raise
        self._sessions.release(session, lock)

    @contextlib.contextmanager
    def claim(self, role: str) -> Iterator[None]:
        """See `Turns`. A role that was lost, and that somebody else has by then, raises `TurnLost` at the
        end. One that was free is taken again: it may have been another's for less than `look_seconds`."""
        watch = self._watch(role)
        if not watch.take():
            raise self._already_held(role)
        with watch.kept(self._look_seconds):
            yield

    def _watch(self, role: str) -> Watch:
        """What holds a role, before it was taken."""
        return Watch(self._sessions, AdvisoryLock(*_CLAIM, (self._key("role", role),)))

    def is_claimed(self, role: str) -> bool:
        """See `Turns`."""
        return bool(self._holders(role))

    def claimant(self, role: str) -> ProcessIdentity | None:
        """See `Turns`."""
        return next((identity_of(name) for name in self._holders(role)), None)

    def _holders(self, role: str) -> list[str]:
        key = self._key("role", role) & (1 << 64) - 1
        rows = self._sessions.query(_HOLDER, [key >> 32, key & (1 << 32) - 1])
        return [str(name) for (name,) in rows]

    def _already_held(self, role: str) -> StoreLocked:
        holder = self.claimant(role)
        return StoreLocked(
            f"{holder or 'another process'} already holds the role {role!r} in the store {self._store} (by "
            f"{self.where}); end it first, or give this one another store",
            holder=holder,
        )

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """See `Turns`. Raises `TurnLost` at the end where it was lost and could not be taken again."""
        ((began,),) = self._sessions.query(_LEASE_BEGIN)
        watch = Watch(self._sessions, AdvisoryLock(*_LEASE, (self._lease_key(), int(began))))
        watch.take()  # a lock that is shared, and that nobody takes for himself alone
        with watch.kept(self._look_seconds):
            yield

    def oldest_lease(self) -> float | None:
        """See `Turns`. Up to a second too early, for a lease knows whole seconds."""
        now = self._now()  # before the question: what comes out is too early rather than too late
        ((age,),) = self._sessions.query(_LEASE_AGE, [self._lease_key() & (1 << 32) - 1])
        return None if age is None else now - float(age)

    def _key(self, kind: str, name: str) -> int:
        return _hash(f"{kind}\0{self._store}\0{name}", 8)

    def _lease_key(self) -> int:
        return _hash(f"lease\0{self._store}", 4)


def _hash(text: str, size: int) -> int:
    """A signed number of `size` bytes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big", signed=True)
