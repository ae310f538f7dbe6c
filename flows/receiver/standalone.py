"""`mirrorflow receive`: a receiver of misses without `up`, for registry servers on any host."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.entries import open_store
from flows.orchestration.user_server import require_server
from flows.receiver.call_options import (
    is_wanted,
    listen,
    listen_for_others,
    notification_secret,
    on_miss_secret,
    url_of,
)
from flows.receiver.main import run_until_stopped
from flows.receiver.options import BACKLOG, PUSHES, ReceiverOptions
from flows.settings import client_environment, own_server_wanted, prefect_home
from profiles.model.server.on_miss import OwnReceiver
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from profiles.model.profile import Profile
    from profiles.model.server.on_miss import OnMiss


class NothingToReceive(MirrorflowError):
    """The profile gives a receiver nothing to do, or servers no way to call it."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen, in place of what the profile says: None and "" for what that says."""

    address: str | None = None
    port: int | None = None
    url: str = ""

    def of(self, on_miss: OnMiss) -> OnMiss:
        """The profile's section with this in it."""
        given = {"address": self.address, "port": self.port, "url": self.url or None}
        changed = {name: value for name, value in given.items() if value is not None}
        here = (on_miss.receiver or OwnReceiver()).model_copy(update=changed)
        return on_miss.model_copy(update={"receiver": here})


def run_receiver(
    path: Path, profile: Profile, address: ListenAddress, *, notifications: bool, say: Callable[[str], None]
) -> None:
    """Until SIGTERM or SIGINT. With `notifications` what upstreams push is taken as well.

    For the main thread. Raises `NothingToReceive`, `SecretUnusable`, `CannotListen`, `StoreError`,
    `PrefectServerError`.
    """
    _check(profile)
    open_store(profile)
    shown = _use_prefect(profile)
    listener, url = listen_for_others(address.of(profile.http.on_miss))
    pushes = _listen_for_pushes(profile) if notifications else None
    lines = [f"answering the misses of registry servers at {url}; press Ctrl-C to stop"]
    if pushes is not None:
        lines.insert(0, f"taking notifications at {url_of(pushes, path=PUSHES)}")
    # Servers that have a list in the profile need no record; a name for its runs it has all the same.
    options = ReceiverOptions(
        str(path.absolute()),
        listener.detach(),
        call="",
        notifications=-1 if pushes is None else pushes.detach(),
        url=url,
        registered=not profile.http.on_miss.all_urls,
        shown=shown,
    )
    run_until_stopped(options, lambda: say("\n".join(lines)))


def _check(profile: Profile) -> None:
    """Raises `NothingToReceive`, `SecretUnusable`."""
    if not is_wanted(profile):
        raise NothingToReceive(
            "the profile has nothing to fetch on demand: write onDemand: true in a registry entry"
        )
    if profile.http.on_miss.secret_file is None:
        raise NothingToReceive(
            "registry servers cannot call this receiver: write http.onMiss.secretFile, the name of a file "
            "with some 32 random characters, and http.onMiss.receiver (docs/scaling.md)"
        )
    on_miss_secret(profile.http.on_miss.secret_file)


def _use_prefect(profile: Profile) -> bool:
    """Whether work is shown in Prefect: on the server of PREFECT_API_URL. Raises `PrefectServerError`."""
    if own_server_wanted(os.environ):
        return False
    api_url = os.environ["PREFECT_API_URL"]
    require_server(api_url)
    os.environ.update(
        client_environment(os.environ, api_url=api_url, home=prefect_home(profile.storage), silent=True)
    )
    return True


def _listen_for_pushes(profile: Profile) -> socket.socket:
    """Raises `NothingToReceive`, `SecretUnusable`, `CannotListen`."""
    wanted = profile.sync.notifications
    if wanted is None:
        raise NothingToReceive("--notifications needs sync.notifications in the profile")
    notification_secret(wanted)
    return listen(wanted.address, wanted.port, key="sync.notifications", backlog=BACKLOG)
