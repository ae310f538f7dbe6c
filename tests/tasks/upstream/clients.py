"""Clients for the tests: short timeouts, waits that pass at once."""

from __future__ import annotations

import time as real
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks.upstream.login.credentials import Credential, Credentials, NoCredentials
from tasks.upstream.options import PlainUrl, UpstreamOptions
from tasks.upstream.registry import UpstreamRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.upstream.connection.bandwidth import Bandwidth
    from tests.support_misbehaving import Misbehaving


class FakeTime:
    """A clock that only sleeping moves; `slept` is in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


class RealTime:
    """For what waits on a socket."""

    clock = staticmethod(real.monotonic)
    sleep = staticmethod(real.sleep)


class OneCredential:
    """The same for every host, and which hosts were asked about."""

    def __init__(self, username: str = "alice", password: str = "s3cret", **more: str) -> None:
        self.credential = Credential(username, password, **more)
        self.asked: set[str] = set()

    def find(self, registry: str, repository: str = "") -> Credential | None:  # noqa: ARG002 - the protocol
        self.asked.add(registry)
        return self.credential


def options(*upstreams: Misbehaving, prefix: str = "", scheme: str = "http", **more: Any) -> UpstreamOptions:
    urls = tuple(PlainUrl(scheme, each.host, prefix) for each in upstreams)
    return UpstreamOptions(urls=urls, **more)


@contextmanager
def client(
    *upstreams: Misbehaving,
    credentials: Credentials | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    time: FakeTime | RealTime | None = None,
    bandwidth: Bandwidth | None = None,
    **more: Any,
) -> Iterator[UpstreamRegistry]:
    time = time or FakeTime()
    with UpstreamRegistry(
        options(*upstreams, **more),
        credentials or NoCredentials(),
        cancelled=cancelled,
        bandwidth=bandwidth,
        clock=time.clock,
        sleep=time.sleep,
    ) as registry:
        yield registry
