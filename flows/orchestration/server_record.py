"""Where our own Prefect server is, and who uses it: the files beside its database (`prefect_home`).

`server.lock`  held by the process that runs the server: one server per SQLite file
`server.json`  where that server answers, for other commands
`users.lock`   held in common by commands that use a server which another one started
"""

from __future__ import annotations

import fcntl
import json
import os
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from registry_server.store.filesystem.process_identity import ProcessIdentity
from registry_server.whole_file import write_whole
from tasks.upstream.connection.proxies import Proxies
from tasks.upstream.errors import ProxyInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """`url` is the API's (`http://127.0.0.1:4200/api`), `started` unix seconds."""

    url: str
    process: ProcessIdentity
    started: float

    @property
    def is_running(self) -> bool:
        """Whether it answers here. That of another host never does: `url` is an address of its loopback."""
        return self.process.is_on_this_host and _alive(self.process.pid) and is_healthy(self.url)


def running_server(home: Path) -> str | None:
    """The API URL of the server of this folder that runs on this host, checked by process and answer."""
    record = read_record(home)
    return record.url if record is not None and record.is_running else None


def is_healthy(url: str) -> bool:
    """Whether a Prefect API answers at `url`."""
    try:
        proxy = Proxies.read().proxy_for(httpx.URL(url))
        with httpx.Client(verify=_context(url), trust_env=False, proxy=proxy, timeout=2) as client:
            return client.get(f"{url}/health").status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL, ProxyInvalid):
        return False


def _context(url: str) -> ssl.SSLContext:
    """Loading the system's CAs takes 10 ms, and a server that starts is asked often."""
    if url.startswith("https:"):
        return ssl.create_default_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def write_record(home: Path, record: ServerRecord) -> None:
    content = json.dumps({"url": record.url, **record.process.to_json(), "started": record.started})
    write_whole(home / "server.json", f"{content}\n".encode())


def read_record(home: Path) -> ServerRecord | None:
    try:
        found = json.loads((home / "server.json").read_text())
        return ServerRecord(str(found["url"]), ProcessIdentity.from_json(found), float(found["started"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def forget_record(home: Path, pid: int) -> None:
    """Remove the record if it is that of process `pid` of this host."""
    record = read_record(home)
    if record is not None and record.process.pid == pid and record.process.is_on_this_host:
        (home / "server.json").unlink(missing_ok=True)


def claim_database(home: Path) -> int | None:
    """The descriptor whose closing gives the database free again; None while another process has it."""
    descriptor = os.open(home / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if not _try_exclusive(descriptor):
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(ProcessIdentity.current().to_json()).encode(), 0)
    return descriptor


def database_holder(home: Path) -> ProcessIdentity | None:
    """The process that claimed the database last. A new holder is named a moment after it has the lock."""
    try:
        return ProcessIdentity.from_json(json.loads((home / "server.lock").read_text()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


@contextmanager
def using_server(home: Path) -> Iterator[int]:
    """Hold the lock in common while a server of this store is being used."""
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


def others_use_server(users: int) -> bool:
    """Whether another process is inside `using_server`. After False nobody can enter it any more."""
    return not _try_exclusive(users)


def await_other_users(users: int) -> None:
    """Block until no other process is inside `using_server`."""
    fcntl.flock(users, fcntl.LOCK_EX)


def _try_exclusive(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
