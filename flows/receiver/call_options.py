"""Where receivers of misses listen, and what registry servers need to call them: from the profile.

Imports no Prefect: `serve` asks too.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flows.receiver.options import BACKLOG
from profiles.model.server.on_miss import OwnReceiver
from registry_server.http.pull_through.via_marks import mark_of
from registry_server.http.pull_through.webhook_client import OnMissOptions
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.model.profile import Profile
    from profiles.model.server.on_miss import OnMiss
    from profiles.model.sync import Notifications

_EVERY: Final = ("0.0.0.0", "::", "")  # noqa: S104 - compared with


class SecretUnusable(MirrorflowError):
    """The file of a secret cannot be read, or is empty."""


class CannotListen(MirrorflowError):
    """An address of a receiver is in use, or not ours."""


def is_wanted(profile: Profile) -> bool:
    """Whether anything is to be fetched on demand, or a name of another registry to be found here."""
    on_demand = any(entry.on_demand for entry in profile.sync.registries)
    return profile.sync.enable and (on_demand or bool(profile.http.vhosts))


def call_options(profile: Profile, store_uuid: str) -> OnMissOptions | None:
    """How a server calls receivers that others can reach. Raises `SecretUnusable`.

    None: nothing is fetched on demand, or only `up` knows its receiver.
    """
    on_miss = profile.http.on_miss
    if not is_wanted(profile) or on_miss.secret_file is None:
        return None
    return with_urls(profile, store_uuid, on_miss.all_urls, on_miss_secret(on_miss.secret_file))


def with_urls(profile: Profile, store_uuid: str, urls: tuple[str, ...], secret: bytes) -> OnMissOptions:
    """Of these receivers; without `urls`, of those that have a record in the store."""
    http = profile.http
    return OnMissOptions(
        urls,
        secret,
        http.on_miss.timeout,
        http.vhosts,
        http.on_miss.failures_per_minute,
        mark_of(store_uuid),
    )


def listen(address: str, port: int, *, key: str, backlog: int) -> socket.socket:
    """Raises `CannotListen`; `key` is the section of the profile."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=backlog)
    except OSError as error:
        raise CannotListen(f"cannot listen on {address}:{port} ({key}): {error.strerror}") from error


def listen_for_others(on_miss: OnMiss, *, url: str = "") -> tuple[socket.socket, str]:
    """A socket for the misses of any host's servers, and the url under which they find it.

    `url` takes the place of the profile's. Raises `CannotListen`.
    """
    here = on_miss.receiver or OwnReceiver()
    listener = listen(here.address, here.port, key="http.onMiss.receiver", backlog=BACKLOG)
    found = url or here.url or url_of(listener, reachable=True)
    return listener, found if urlsplit(found).path else f"{found}/"


def url_of(listener: socket.socket, *, path: str = "/", reachable: bool = False) -> str:
    """E.g. `http://127.0.0.1:8091/`. `reachable`: from other hosts, so by name where it is every address."""
    host, port = listener.getsockname()[:2]
    if reachable and host in _EVERY:
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"


def on_miss_secret(path: Path) -> bytes:
    """Raises `SecretUnusable`."""
    return read_secret(path, "http.onMiss.secretFile")


def notification_secret(notifications: Notifications) -> bytes:
    """Raises `SecretUnusable`."""
    return read_secret(notifications.secret_file, "sync.notifications.secretFile", shortest=16)


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
