"""An upstream that sends a byte now and then is given up, whatever it was asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tasks.upstream.connection.minimum_rate import LEAST, MinimumRate
from tasks.upstream.errors import UpstreamUnavailable, Where
from tests.support_behaviours import answers
from tests.tasks.upstream.clients import RealTime, client
from tests.tasks.upstream.login.test_auth import bearer
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.upstream.registry import UpstreamRegistry
    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

NAME = "library/nginx"
LAYER = b"0123456789abcdef" * 65536 * 5  # 5 MiB: the fast path
HERE = Where("registry.example", NAME)


def drips(body: bytes, *, at: int = 0, **headers: str) -> Behaviour:
    """What stands before `at` at once, and then a byte each hundredth of a second."""

    def behave(exchange: Exchange) -> None:
        answers(200, body[:at], **({"Content_Length": str(len(body))} | headers))(exchange)
        for byte in body[at:]:
            if not exchange.alive():
                break
            exchange.write(bytes([byte]))
            time.sleep(0.01)
        exchange.close()

    return behave


@pytest.mark.parametrize(
    ("path", "behaviour", "call"),
    [
        (f"/v2/{NAME}/manifests/1.25", drips(b" " * 5000), lambda it: it.manifest(NAME, "1.25")),
        (f"/v2/{NAME}/tags/list", drips(b" " * 5000), lambda it: it.tags(NAME)),
        ("/v2/_catalog", drips(b" " * 5000), lambda it: list(it.repositories())),
        ("/token", drips(b" " * 5000), lambda it: it.head(NAME, "for-users")),
    ],
    ids=["manifest", "tags", "catalog", "token"],
)
def test_a_small_answer_that_drips_is_given_up(
    upstream: Misbehaving, path: str, behaviour: Behaviour, call: Callable[[UpstreamRegistry], object]
) -> None:
    upstream.on(f"/v2/{NAME}/manifests/for-users", bearer(upstream))
    upstream.on(path, behaviour)
    with (
        client(upstream, time=RealTime(), read_timeout=0.2) as registry,
        pytest.raises(UpstreamUnavailable, match=r"bytes in .* at least 1024 a second have to come"),
    ):
        call(registry)
    assert len(upstream.requests(path=path)) == 1, "a second try at once would only wait again"


@pytest.mark.parametrize(
    ("size", "at"), [(5000, 0), (len(LAYER), 4_500_000)], ids=["small", "fast path, after much came at once"]
)
def test_a_blob_that_drips_is_given_up_and_what_came_is_kept(
    upstream: Misbehaving, size: int, at: int
) -> None:
    blob = upstream.add_blob(NAME, LAYER[:size])
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", drips(LAYER[:size], at=at))
    sink = MemorySink()
    with (
        client(upstream, time=RealTime(), read_timeout=0.2) as registry,
        pytest.raises(UpstreamUnavailable, match="have to come"),
    ):
        registry.blob(NAME, blob, sink)
    assert at < len(sink.content) < size
    assert sink.content == LAYER[: len(sink.content)]


def test_each_window_is_looked_at_by_itself() -> None:
    """Much at the beginning does not buy the right to drip for ever; nor is a slow line given up."""
    rate = MinimumRate(HERE, 30)
    rate.waited(1, 1_000_000)
    rate.waited(29, 0)
    rate.check()
    for _ in range(300):
        rate.waited(1, LEAST)
        rate.check()
    rate.waited(30.5, 30 * LEAST - 1)
    with pytest.raises(UpstreamUnavailable, match=r"30719 bytes in 30\.5 s; at least 1024 a second"):
        rate.check()
