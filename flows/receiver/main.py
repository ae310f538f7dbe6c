"""The long-lived process behind misses: `python -m flows.receiver.main OPTIONS` (JSON), a child of `up`; or
`mirrorflow receive`.

It takes the calls of registry servers on a socket that it is given, fetches for the client, and does the rest
in flow runs (`mirror_on_demand`). It follows the profile; a bad one is not taken over.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.entries import open_store
from flows.lifecycle.profile_watch import ProfileWatch
from flows.orchestration.crash_cleanup import clear_on_demand
from flows.orchestration.prefect_server import START_TIMEOUT
from flows.receiver.call_options import notification_secret, on_miss_secret
from flows.receiver.flow_run_executor import FlowRunExecutor
from flows.receiver.options import ReceiverOptions
from flows.receiver.push_notifications import PushReceiver
from flows.receiver.registration import Registration
from flows.receiver.webhook import Receiver
from profiles.loader import load_profile
from registry_server.http.pull_through.webhook_client import OnMissOptions
from registry_server.oci.errors import MirrorflowError
from tasks.on_demand.service import OnDemand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiles.model.profile import Profile

log = logging.getLogger("mirrorflow.on_demand")
_WATCH = 1.0  # seconds
# Seconds for which a thread may keep the interpreter. A thread that fetches gives it up at each request, and
# waits that long to get it back from the one that takes many calls in. Python's own value is 0.005.
_SWITCH = 0.0005
_GRACE = 8.0  # seconds: a retry that sleeps in Prefect cannot be woken


def run(options: ReceiverOptions, stop: threading.Event, on_ready: Callable[[], None] = lambda: None) -> None:
    """Until `stop`; `on_ready` is called once servers find it. Raises MirrorflowError if it cannot begin."""
    path = Path(options.profile)
    profile = load_profile(path).profile
    store = open_store(profile)
    name = f"{store.uuid}/{options.name}"
    opener = RunOpener(options.profile, name, stop) if options.shown else None
    executor = FlowRunExecutor(opener.open if opener else None, name=name)
    service = OnDemand(profile, store, executor)
    receivers = list(_receivers(options, profile, service))
    for receiver in receivers:
        threading.Thread(target=receiver.serve, name="receiver", daemon=True).start()
    is_found = bool(options.url) and options.registered
    with Registration(store.receivers, options.url) if is_found else nullcontext():
        on_ready()
        _follow(path, profile, service, stop)
    for receiver in receivers:
        receiver.close()
    service.stop()
    executor.close()
    service.close()


def _follow(path: Path, profile: Profile, service: OnDemand, stop: threading.Event) -> None:
    """Take over what changes in the profile, until `stop`."""
    watch = ProfileWatch(path)
    watch.accepted(profile)
    refused = ""
    while not stop.wait(_WATCH):
        if watch.changed():
            before, refused = refused, _take_over(service, watch, path, profile)
            if refused and refused != before:
                log.warning("the changed profile is not applied: %s", refused)


def _receivers(
    options: ReceiverOptions, profile: Profile, service: OnDemand
) -> Iterator[Receiver | PushReceiver]:
    """Of misses, and of notifications. Raises `SecretUnusable`, `ReceiverFailed`."""
    if options.listener >= 0:
        secret = _secret(options, profile)
        listener = socket.socket(fileno=options.listener)
        yield Receiver(
            listener,
            secret,
            service.answer,
            resolve=service.resolve,
            refusal=service.refusal,
            url=options.url if options.registered else "",
        )
    if options.notifications >= 0 and profile.sync.notifications is not None:
        listener = socket.socket(fileno=options.notifications)
        yield PushReceiver(listener, notification_secret(profile.sync.notifications), service.pushed)


def _secret(options: ReceiverOptions, profile: Profile) -> bytes:
    """Raises `SecretUnusable`, `ReceiverFailed`."""
    if options.call:
        return OnMissOptions.read(Path(options.call)).secret
    assert profile.http.on_miss.secret_file is not None
    return on_miss_secret(profile.http.on_miss.secret_file)


def _take_over(service: OnDemand, watch: ProfileWatch, path: Path, first: Profile) -> str:
    """Why the changed profile is not taken over; "" when it is, or when it needs another `up`."""
    try:
        changed = load_profile(path).profile
    except MirrorflowError as error:
        watch.refused()
        return str(error)
    watch.accepted(changed)
    if changed.storage == first.storage:  # another store needs another `up`
        service.replace_profile(changed)
    return ""


class RunOpener:
    """Calls the flow. Prefect is imported in a thread: that takes two seconds, in which misses are served."""

    def __init__(self, profile: str, name: str, stop: threading.Event) -> None:
        """`name` is the first part of the keys of its runs' feeds."""
        self._profile, self._name, self._stop = profile, name, stop
        self._ready = threading.Thread(target=self._prepare, name="prefect", daemon=True)
        self._ready.start()

    def open(self, feed: str) -> Any:
        """Returns when the run has ended; raises whatever Prefect raises."""
        self._ready.join()
        from flows.mirror_on_demand import mirror_on_demand

        return mirror_on_demand(self._profile, feed, return_state=True)

    def _prepare(self) -> None:
        """Wait for Prefect's server, which `up` starts at the same time. If it does not come, what is left
        over there is left for the next receiver."""
        deadline = time.monotonic() + START_TIMEOUT
        while (why := self._clear()) and not self._stop.wait(_WATCH):
            if time.monotonic() > deadline:
                log.warning("Prefect does not answer: %s", why)
                return

    def _clear(self) -> str:
        """End what a receiver left over that was killed. Why that was not possible, or ""."""
        try:
            from prefect.client.orchestration import get_client

            with get_client(sync_client=True) as client:
                if cleared := clear_on_demand(client, self._name):
                    log.warning("%d flow runs of an earlier receiver were ended", cleared)
        except Exception as error:  # noqa: BLE001 - whatever Prefect raises: misses are served without it
            return str(error) or type(error).__name__
        return ""


def main() -> int:
    """0 after a stop that was asked for, 1 after an error, with a line on stderr."""
    sys.setswitchinterval(_SWITCH)
    options = ReceiverOptions(**json.loads(sys.argv[1]))
    try:
        run_until_stopped(options)
    except MirrorflowError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def run_until_stopped(options: ReceiverOptions, on_ready: Callable[[], None] = lambda: None) -> None:
    """Until SIGTERM or SIGINT. For the main thread. Raises MirrorflowError when it cannot begin."""
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.WARNING)
    stop = threading.Event()

    def ask(_signal: int, _frame: object) -> None:
        stop.set()
        timer = threading.Timer(_GRACE, lambda: os._exit(0))
        timer.daemon = True
        timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    run(options, stop, on_ready)


if __name__ == "__main__":
    sys.exit(main())
