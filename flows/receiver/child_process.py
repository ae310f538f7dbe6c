"""The receiver of misses as a child of `up`: restarted when it dies, on a socket that stays.

`up` holds the listening socket, so that calls wait in its queue while there is no receiver; a transfer that
a killed one had begun is resumed by the next one.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from flows.lifecycle.parent_death import ends_with_parent
from flows.orchestration.prefect_server import end_process
from flows.receiver.options import BACKLOG, PUSHES, ReceiverOptions
from registry_server.http.pull_through.webhook_client import OnMissOptions, mark_of
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from profiles.model.profile import Profile
    from profiles.model.sync import Notifications

_GRACE = 9.0  # seconds
_PAUSE = 1.0  # seconds between two starts
_BACKLOG = 512  # of notifications


class SecretUnusable(MirrorflowError):
    """The file of a secret cannot be read, or is empty."""


class CannotListen(MirrorflowError):
    """The address of sync.notifications is in use, or not ours."""


class ReceiverProcess:
    """Made before the registry server, which is given `call_file`; started when Prefect is known."""

    def __init__(self, profile: Profile, profile_path: Path, home: Path, store_uuid: str) -> None:
        """`home`: a folder that only we read. Raises `SecretUnusable`, `CannotListen`, OSError."""
        self._store_uuid = store_uuid
        self.call_file: Path | None = None
        self.pid: int | None = None
        self._path, self._home = profile_path, home
        self._listener: socket.socket | None = None
        self._notifications: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._environment: Mapping[str, str] = {}
        self._started = 0.0
        if is_wanted(profile):
            self.call_file = self._prepare(profile)
        if profile.sync.enable and profile.sync.notifications is not None:
            self._notifications = _listen(profile.sync.notifications)

    @property
    def notifications_url(self) -> str:
        """Where upstream registries say what was pushed; "" for a profile without that."""
        if self._notifications is None:
            return ""
        host, port = self._notifications.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{PUSHES}"

    @property
    def log(self) -> Path:
        return self._home / "on-demand.log"

    def start(self, environment: Mapping[str, str]) -> None:
        """Does nothing when no entry has `onDemand`, or somebody else's receiver is named."""
        self._environment = environment
        if self._listener is not None or self._notifications is not None:
            self._home.mkdir(parents=True, exist_ok=True)
            self.log.unlink(missing_ok=True)
            self._spawn()

    def check(self) -> str:
        """Start it anew if it has ended; then a sentence about that, else ""."""
        if self._child is None or self._child.poll() is None or time.monotonic() - self._started < _PAUSE:
            return ""
        status = self._child.returncode
        self._spawn()
        return f"the receiver of misses ended with status {status} and was restarted; see {self.log}"

    def stop(self) -> None:
        if self._child is not None:
            end_process(self._child, grace=_GRACE)
            self._child = self.pid = None
        for listener in (self._listener, self._notifications):
            if listener is not None:
                listener.close()
        self._listener = self._notifications = None
        if self.call_file is not None:
            self.call_file.unlink(missing_ok=True)

    def kill(self) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.kill()

    def _prepare(self, profile: Profile) -> Path:
        on_miss = profile.http.on_miss
        if on_miss.url and on_miss.secret_file is not None:
            url, secret = on_miss.url, read_secret(on_miss.secret_file, "http.onMiss.secretFile")
        else:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
            port = self._listener.getsockname()[1]
            url, secret = f"http://127.0.0.1:{port}/", secrets.token_urlsafe(32).encode()
        mark = mark_of(self._store_uuid)
        options = OnMissOptions(
            (url,), secret, on_miss.timeout, profile.http.vhosts, on_miss.failures_per_minute, mark
        )
        self._home.mkdir(parents=True, exist_ok=True)
        path = self._home / "on-miss.json"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(options.to_json())
        return path

    def _spawn(self) -> None:
        self._started = time.monotonic()
        misses, pushes = (
            -1 if each is None else each.fileno() for each in (self._listener, self._notifications)
        )
        options = ReceiverOptions(str(self._path), misses, str(self.call_file or ""), pushes)
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                ends_with_parent([sys.executable, *options.arguments()], signal.SIGTERM),
                env=dict(self._environment),
                cwd=self._home,  # Prefect reads .env and prefect.toml of its working directory
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[each for each in (misses, pushes) if each >= 0],
                start_new_session=True,
            )
        self.pid = self._child.pid


def is_wanted(profile: Profile) -> bool:
    """Whether anything is to be fetched on demand, or a name of another registry to be found here."""
    on_demand = any(entry.on_demand for entry in profile.sync.registries)
    return profile.sync.enable and (on_demand or bool(profile.http.vhosts))


def notification_secret(notifications: Notifications) -> bytes:
    """Raises `SecretUnusable`."""
    return read_secret(notifications.secret_file, "sync.notifications.secretFile", shortest=16)


def _listen(notifications: Notifications) -> socket.socket:
    notification_secret(notifications)  # what is wrong with it is said now
    address = notifications.address, notifications.port
    family = socket.AF_INET6 if ":" in notifications.address else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {address[0]}:{address[1]} (sync.notifications): {error.strerror}"
        ) from error


def read_secret(path: Path, key: str, *, shortest: int = 1) -> bytes:
    """Raises `SecretUnusable`; `key` is the profile's."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise SecretUnusable(f"cannot read {key} {path}: {error.strerror}") from error
    if len(secret) < shortest:
        found = f"has {len(secret)} characters, which is too short" if secret else "is empty"
        raise SecretUnusable(f"{key} {path} {found}; write some 32 random characters")
    return secret
