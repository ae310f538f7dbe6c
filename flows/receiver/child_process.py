"""The receiver of misses as a child of `up`: restarted when it dies, on a socket that stays.

`up` holds the listening socket, so that calls wait in its queue while there is no receiver; a transfer that
a killed one had begun is resumed by the next one.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from flows.lifecycle.parent_death import ends_with_parent
from flows.orchestration.prefect_server import end_process
from flows.receiver.call_options import (
    call_options,
    is_wanted,
    listen,
    listen_for_others,
    notification_secret,
    url_of,
    with_urls,
)
from flows.receiver.options import BACKLOG, PUSHES, ReceiverOptions

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from profiles.model.profile import Profile

_GRACE = 9.0  # seconds
_PAUSE = 1.0  # seconds between two starts
_BACKLOG = 512  # of notifications


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
        self.url = ""  # of a receiver that registry servers of other hosts find in the store
        if is_wanted(profile):
            self.call_file = self._prepare(profile)
        if profile.sync.enable and profile.sync.notifications is not None:
            notifications = profile.sync.notifications
            notification_secret(notifications)  # what is wrong with it is said now
            self._notifications = listen(
                notifications.address, notifications.port, key="sync.notifications", backlog=_BACKLOG
            )

    @property
    def notifications_url(self) -> str:
        """Where upstream registries say what was pushed; "" for a profile without that."""
        if self._notifications is None:
            return ""
        return url_of(self._notifications, path=PUSHES)

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
        options = call_options(profile, self._store_uuid)
        if options is None:
            self._listener = listen("127.0.0.1", 0, key="http.onMiss", backlog=BACKLOG)
            secret = secrets.token_urlsafe(32).encode()
            options = with_urls(profile, self._store_uuid, (url_of(self._listener),), secret)
        elif not options.urls:
            self._listener, self.url = listen_for_others(profile.http.on_miss)
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
        call = str(self.call_file or "")
        options = ReceiverOptions(str(self._path), misses, call, pushes, url=self.url)
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
