"""A PostgreSQL server of our own, from Debian's package, that tests may stop, cut off and kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD: Final = "not-for-messages"
_USER: Final = "postgres"
_SETTINGS: Final = ("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "listen_addresses=127.0.0.1")


@dataclass(frozen=True)
class PostgresServer:
    """A running one; `url` is that of its database, with user and password."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def query(self, text: str) -> list[tuple[object, ...]]:
        """One statement, on a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def cut_connections(self) -> None:
        """End every connection but our own, as an administrator, a fail-over or a firewall would."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    def start(self) -> None:
        options = " ".join(f"-c {each}" for each in (*_SETTINGS, f"port={self.port}"))
        _control(self.folder, "start", "--options", f"{options} -c unix_socket_directories={self.folder}")

    def stop(self) -> None:
        _control(self.folder, "stop", "--mode", "immediate")


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A new, empty server on a free port of 127.0.0.1. The test is skipped where PostgreSQL is missing."""
    _program("initdb")
    # Not below pytest's folder: that is closed to the user that the server has to run as.
    folder = Path(tempfile.mkdtemp(prefix="mirrorflow-postgres-"))
    try:
        server = _made(folder / "data")
        server.start()
        try:
            yield server
        finally:
            with _kept_signal():
                server.stop()
    finally:
        shutil.rmtree(folder)


def _made(folder: Path) -> PostgresServer:
    secret = folder.parent / "password"
    secret.write_text(PASSWORD)
    folder.mkdir()
    if os.geteuid() == 0:
        for path in (folder.parent, folder, secret):
            shutil.chown(path, _USER)
    _run("initdb", "--auth=scram-sha-256", f"--pwfile={secret}", f"--username={_USER}", "--no-sync",
         "--encoding=UTF8", "--locale=C", str(folder))  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return PostgresServer(folder, port)


def _control(folder: Path, *arguments: str) -> None:
    log = folder.parent / "log"
    try:
        _run("pg_ctl", f"--pgdata={folder}", f"--log={log}", "--wait", *arguments)
    except subprocess.CalledProcessError:
        pytest.fail(f"pg_ctl {arguments[0]}: {log.read_text() if log.exists() else 'no log'}")


def _run(name: str, *arguments: str) -> None:
    # PostgreSQL refuses to run as root.
    user = _USER if os.geteuid() == 0 else None
    subprocess.run(
        [_program(name), *arguments], check=True, user=user, cwd="/", stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, start_new_session=True,
    )  # fmt: skip


def _program(name: str) -> str:
    """Debian has them outside of PATH, a folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: path.parts[4].zfill(4))
    path = str(found[-1]) if found else shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is not installed; Debian has it as postgresql, see .ci/run"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def _kept_signal() -> Iterator[None]:
    """An impatient second Ctrl-C must not leave the server behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
