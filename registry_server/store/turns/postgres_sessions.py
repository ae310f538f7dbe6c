"""Sessions of PostgreSQL that hold advisory locks: how they are opened, watched, and given up.

An advisory lock belongs to the session that took it, and ends with it. So each lock that is held has a
session of its own, and a session that broke off has lost its lock, whatever its holder does meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from registry_server.store.errors import StoreError, StoreUnreachable, TurnLost
from registry_server.store.filesystem.process_identity import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

Row = tuple[Any, ...]

_CONNECT_SECONDS: Final = 5
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0)  # seconds between attempts to connect; the last one again and again
_KEPT_IDLE: Final = 4
_FINAL: Final = (
    "authentication failed",
    "certificate",
    "could not translate host name",
    "does not exist",
    "no password supplied",
    "no pg_hba.conf entry",
    "permission denied",
)
"""What the server says where another attempt ends the same."""

# Both sides notice within half a minute that the other one's host is gone: otherwise the lock of a host that
# lost its power would be held for hours. (Parameters of libpq; times in seconds, the last in milliseconds.)
_CLIENT: Final = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    # A standby has advisory locks as well, which nobody else would see.
    "target_session_attrs": "read-write",
}
_SERVER: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
    # A turn is waited for, and held, for as long as it takes.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
}
# Only what this version of the server knows.
_CONFIGURE: Final = (
    "SELECT set_config(wanted.name, wanted.value, false)"
    " FROM unnest(%s::text[], %s::text[]) AS wanted(name, value) JOIN pg_settings USING (name)"
)


@dataclass(frozen=True, slots=True)
class AdvisoryLock:
    """The statements that take a lock and release it, and the numbers that they want.

    `release` answers whether the session held it; a `take` that does not wait, whether it was free.
    """

    take: str
    release: str
    arguments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """One connection, and the process that opened it."""

    connection: psycopg.Connection[Row]
    pid: int

    def execute(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """The rows of one statement. Raises psycopg's errors."""
        return self.connection.execute(statement, arguments).fetchall()

    def close(self) -> None:
        """Ends what it holds. In a child that was forked meanwhile it stays open: it is the parent's."""
        if self.pid == os.getpid():
            self.connection.close()


class Sessions:
    """Sessions at one database. Shared by all threads of a process; a child that is forked makes its own."""

    def __init__(self, url: str, *, retry_seconds: float = 20.0) -> None:
        """`url`: `postgresql://user:password@host:5432/database`, or any form that libpq knows.

        `retry_seconds`: for how long a server that does not answer is tried again. Raises `StoreError` for a
        text that is no URL, and where psycopg is not installed.
        """
        parameters = _parsed(url)
        self.where = _place(parameters)
        self._parameters = _CLIENT | {"connect_timeout": str(_CONNECT_SECONDS)} | parameters
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        weakref.finalize(self, _close_all, self._idle)

    def query(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """One statement that holds nothing afterwards. Raises `StoreUnreachable`."""
        session, rows = self.run(statement, arguments)
        self.give_back(session)
        return rows

    def run(
        self, statement: str, arguments: Sequence[object] = (), *, once: bool = False
    ) -> tuple[Session, list[Row]]:
        """The rows, and the session that holds what the statement took. Raises `StoreUnreachable`.

        A session that breaks off while it runs has taken nothing, so another one may try. `once`: a server
        that does not answer is not tried again.
        """
        deadline = time.monotonic() + (0.0 if once else self._retry_seconds)
        while True:
            session = self._take() or self._connect(deadline)
            try:
                return session, session.execute(statement, arguments)
            except _database_error() as error:
                session.close()
                if time.monotonic() >= deadline or not _is_disconnect(error):
                    raise self._unreachable(error) from error
            except BaseException:  # e.g. Ctrl-C while it waits
                session.close()
                raise

    def release(self, session: Session, lock: AdvisoryLock) -> None:
        """Raises `TurnLost` where the session does not hold it (any more).

        To close the session would not do: the server notices that some time later.
        """
        try:
            was_held = session.execute(lock.release, lock.arguments) == [(True,)]
        except _database_error() as error:
            session.close()
            raise self.lost(error) from error
        if not was_held:
            session.close()
            raise self.lost()
        self.give_back(session)

    def give_back(self, session: Session) -> None:
        """A session that holds nothing any more: for the next one, or closed where there are enough."""
        with self._lock:
            if len(self._idle) < _KEPT_IDLE:
                self._idle.append(session)
                return
        session.close()

    def _take(self) -> Session | None:
        with self._lock:
            self._idle[:] = [each for each in self._idle if each.pid == os.getpid()]
            return self._idle.pop() if self._idle else None

    def _connect(self, deadline: float) -> Session:
        for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
            try:
                return self._opened()
            except _database_error() as error:
                if time.monotonic() + pause >= deadline or any(each in str(error) for each in _FINAL):
                    raise self._unreachable(error) from error
            time.sleep(pause)
        raise AssertionError("there is always another pause")

    def _opened(self) -> Session:
        import psycopg

        name = application_name(ProcessIdentity.current())
        connection = psycopg.connect(
            **{**self._parameters, "application_name": name}, autocommit=True, prepare_threshold=None
        )
        session = Session(connection, os.getpid())
        try:
            session.execute(_CONFIGURE, [[*_SERVER], [*_SERVER.values()]])
        except BaseException:
            session.close()
            raise
        return session

    def _unreachable(self, error: Exception) -> StoreUnreachable:
        return StoreUnreachable(
            f"{self.where} cannot be used for locks ({self._reason(error)}); check that it runs, and the "
            "URL, the user and the password that it is reached by"
        )

    def lost(self, error: Exception | None = None) -> TurnLost:
        """For a holder whose session broke off, or does not hold what it took."""
        why = "a connection pooler gives other clients the same session; set pool_mode = session in PgBouncer"
        return TurnLost(
            f"a lock in {self.where} was lost while it was held ({self._reason(error) if error else why}); "
            "run it again, for another process may have worked at the same time"
        )

    def _reason(self, error: Exception) -> str:
        """The server's reason in one line. It has no password in it; should it have, it is taken out."""
        text = " ".join(str(error).split()) or type(error).__name__
        password = self._parameters.get("password")
        return text.replace(str(password), "***") if password else text


def _close_all(idle: list[Session]) -> None:
    for session in idle:
        session.close()


class Watch:
    """Looks after a lock that is held for long: when it was lost it is taken again, unless somebody else has
    it by then.

    A restart of the server must not take the role away from a process that runs for weeks.
    """

    def __init__(self, sessions: Sessions, lock: AdvisoryLock) -> None:
        self._sessions = sessions
        self._lock = lock
        self._session: Session | None = None
        self._lost: StoreError | None = None
        self._is_taken = False  # by somebody else, after we lost it
        self._ended = threading.Event()

    def take(self, *, once: bool = False) -> bool:
        """Take the lock without waiting for its holder; whether it is ours now."""
        session, rows = self._sessions.run(self._lock.take, self._lock.arguments, once=once)
        if rows == [(True,)]:
            self._session = session
            return True
        self._sessions.give_back(session)
        return False

    @contextlib.contextmanager
    def kept(self, every: float) -> Iterator[None]:
        """Look every so many seconds. Raises `TurnLost` at the end where the lock was lost for good."""
        thread = threading.Thread(target=self._watch, args=(every,), name="turns", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._end()
        if self._lost is not None:
            raise self._lost

    def _end(self) -> None:
        if self._session is not None:
            try:
                self._sessions.release(self._session, self._lock)
            except StoreError as error:
                self._lost = error

    def _watch(self, every: float) -> None:
        while not self._ended.wait(every) and not self._is_taken:
            self.look()

    def look(self) -> None:
        """Whether the lock is still held; if not, take it again."""
        if self._session is not None:
            try:
                self._session.execute("SELECT 1")
            except _database_error() as error:
                self._session, self._lost = None, self._sessions.lost(error)
        if self._session is None and not self._is_taken:
            with contextlib.suppress(StoreError):  # the server is down for longer: look again
                if self.take(once=True):
                    self._lost = None
                else:
                    self._is_taken = True


# Who holds a lock: PostgreSQL shows everybody the name of the application, at most 63 bytes of ASCII.
_PROGRAM: Final = "mirrorflow"
_BOOT, _HOST = 8, 35  # characters of the boot id and of the host's name


def application_name(identity: ProcessIdentity) -> str:
    """`mirrorflow <pid> <beginning of the boot id> <host>`."""
    return f"{_PROGRAM} {identity.pid} {identity.boot[:_BOOT] or '-'} {identity.host[:_HOST]}"


def identity_of(name: str) -> ProcessIdentity | None:
    """The process that gave itself this name; None for another program's."""
    program, _, rest = name.partition(" ")
    pid, boot, host = (*rest.split(" ", 2), "", "")[:3]
    if program != _PROGRAM or not pid.isdecimal() or not host:
        return None
    here = ProcessIdentity.current()
    # What was cut off is known of this host only; of another one it does not matter.
    return ProcessIdentity(
        int(pid),
        here.host if here.host[:_HOST] == host else host,
        here.boot if here.boot[:_BOOT] == boot else boot.strip("-"),
    )


def _parsed(url: str) -> dict[str, Any]:
    try:
        from psycopg import Error
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise StoreError(
            "locks in PostgreSQL need the library psycopg; install mirrorflow[postgres]"
        ) from error
    try:
        return dict(conninfo_to_dict(url))
    except Error:  # its text may show a part of the password
        raise StoreError(
            "the URL of PostgreSQL cannot be read; write postgresql://user:password@host:5432/database, with "
            "% and two hexadecimal digits in place of each character that a URL cannot have"
        ) from None


def _place(parameters: dict[str, Any]) -> str:
    host, port = parameters.get("host", "localhost"), parameters.get("port", 5432)
    return f"PostgreSQL at {host}:{port}/{parameters.get('dbname', parameters.get('user', ''))}"


def _database_error() -> type[psycopg.Error]:
    from psycopg import Error

    return Error


def _is_disconnect(error: psycopg.Error) -> bool:
    """Without a state there was no answer; 57P: an administrator ended it, or the server is starting up."""
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))
