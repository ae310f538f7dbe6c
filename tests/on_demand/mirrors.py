"""A registry server with the receiver of misses behind it, without Prefect: what a client sees of it."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from flows.entries import open_store
from flows.receiver.options import BACKLOG
from flows.receiver.webhook import Receiver
from profiles.loader import parse_profile
from registry_server.http.pull_through.via_marks import mark_of
from registry_server.http.pull_through.webhook_client import OnMissOptions
from registry_server.http.server_process import running_server
from tasks.on_demand.service import OnDemand
from tasks.on_demand.work import Work, do
from tests.support.requests import RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.http.auth.access_options import AccessOptions
    from registry_server.store.store import Store
    from tasks.on_demand.work import Executor

SECRET = b"only for this test"


class Directly:
    """Work is done at once, in threads; `wait` until all of it is done."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(64)
        self._changed = threading.Condition()
        self._open = 0
        self.labels: list[str] = []

    def submit(self, work: Work) -> None:
        with self._changed:
            self._open += 1
            self.labels += [f"{step.name} {work.label}" for step in work.steps]
        self._pool.submit(self._do, work)

    def _do(self, work: Work) -> None:
        try:
            do(work)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    def wait(self, seconds: float = 20) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: not self._open, seconds), "work on demand does not end"


@dataclass(frozen=True)
class Mirror:
    store: Store
    url: str
    client: httpx.Client
    service: OnDemand
    work: Directly
    log: RequestLog
    receiver_url: str
    stop_receiver: Callable[[], None]

    @property
    def host(self) -> str:
        return self.url.partition("//")[2]


# Many threads ask through one client: with limits, httpcore closes connections as surplus that it has given
# to a thread which has not begun to send.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


def document(*urls: str, **options: Any) -> dict[str, Any]:
    """A registry entry on demand."""
    return {"name": "registry1", "urls": list(urls), "onDemand": True, **options}


@contextmanager
def minding(
    folder: Path,
    *entries: dict[str, Any],
    more: dict[str, Any] | None = None,
    executor: Executor | None = None,
    **storage: Any,
) -> Iterator[tuple[Profile, OnDemand, Store, Directly]]:
    """What answers misses, without a server in front of it. `executor` does its work instead of threads."""
    folder.mkdir(parents=True, exist_ok=True)
    profile_document = {
        "storage": {"rootDirectory": "store", **storage},
        "sync": {"registries": list(entries)},
        **(more or {}),
    }
    text = json.dumps(profile_document)
    profile = parse_profile(text, folder / "profile.json").profile
    store, work = open_store(profile), Directly()
    service = OnDemand(profile, store, executor or work)
    try:
        yield profile, service, store, work
    finally:
        service.close()


@contextmanager
def mirroring(
    folder: Path,
    *entries: dict[str, Any],
    timeout: float = 20,
    access: AccessOptions | None = None,
    more: dict[str, Any] | None = None,
    executor: Executor | None = None,
    **storage: Any,
) -> Iterator[Mirror]:
    with minding(folder, *entries, more=more, executor=executor, **storage) as (
        profile,
        service,
        store,
        work,
    ):
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        receiver = Receiver(
            listener, SECRET, service.answer, resolve=service.resolve, refusal=service.refusal
        )
        threading.Thread(target=receiver.serve, daemon=True).start()
        call = folder / "on-miss.json"
        limit = profile.http.on_miss.failures_per_minute
        options = OnMissOptions((url,), SECRET, timeout, profile.http.vhosts, limit, mark_of(store.uuid))
        call.write_text(options.to_json())
        log = RequestLog(folder / "access.log")
        roots = profile.storage.roots()
        try:
            with (
                running_server(
                    store.root,
                    on_miss=call,
                    access_log=log.path,
                    subpaths=roots,
                    access=access,
                    remote=profile.storage.remote(),
                ) as server,
                httpx.Client(
                    base_url=server, timeout=30, headers={"Accept-Encoding": "identity"}, limits=_LIMITS
                ) as client,
            ):
                yield Mirror(store, server, client, service, work, log, url, receiver.close)
        finally:
            receiver.close()
