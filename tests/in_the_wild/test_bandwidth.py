"""`bytesPerSec` bounds what all clients of a process take together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tasks.upstream.connection.bandwidth import Bandwidth, Bucket, shared_bucket
from tasks.upstream.connection.waits import Waits
from tasks.upstream.errors import Stopped
from tests.profiles.support import problems
from tests.tasks.runs import mirror, opened, visible
from tests.tasks.upstream.clients import FakeTime, client
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("rates", "seconds"),
    [
        pytest.param((), 0, id="no limit"),
        pytest.param((MIB,), 7, id="8 MiB at 1 MiB/s, of which the first second's come at once"),
        pytest.param((4 * MIB, 2 * MIB), 3, id="the slower of two limits"),
    ],
)
def test_a_blob_takes_as_long_as_the_limit_says(
    upstream: Misbehaving, rates: tuple[int, ...], seconds: float
) -> None:
    content = bytes(8 * MIB)
    blob, sink, time = upstream.add_blob("a", content), MemorySink(), FakeTime()
    with client(upstream, time=time, bandwidth=Bandwidth([Bucket(rate) for rate in rates])) as registry:
        registry.blob("a", blob, sink)
    assert sink.content == content
    assert time.slept == pytest.approx(seconds, abs=0.2)


def test_threads_share_one_bucket() -> None:
    bucket, now = Bucket(1000), 100.0
    with ThreadPoolExecutor(4) as pool:
        delays = sorted(pool.map(lambda _: bucket.delay(1000, now), range(4)))
    assert delays == [0, 1, 2, 3]


def test_an_idle_link_saves_up_no_more_than_a_second() -> None:
    bucket = Bucket(1000)
    assert bucket.delay(1000, now=0) == 0
    assert bucket.delay(1000, now=3600) == 0
    assert bucket.delay(1000, now=3600) == 1


def test_a_slow_link_hands_on_small_pieces() -> None:
    time = FakeTime()
    waits = Waits(clock=time.clock, sleep=time.sleep)
    pieces = [len(piece) for piece in Bandwidth([Bucket(10_000)]).paced(bytes(6000), waits)]
    assert pieces == [2500, 2500, 1000]


def test_a_wait_ends_with_the_run() -> None:
    stop, time = threading.Event(), FakeTime()
    waits = Waits(stop.is_set, clock=time.clock, sleep=time.sleep)
    pieces = Bandwidth([Bucket(10)]).paced(bytes(MIB), waits)
    stop.set()
    with pytest.raises(Stopped):
        list(pieces)


def test_clients_of_one_name_share_a_bucket_until_its_rate_changes() -> None:
    first = shared_bucket("store: entry", 1000)
    assert shared_bucket("store: entry", 1000) is first
    assert shared_bucket("store: other", 1000) is not first
    assert shared_bucket("store: entry", 2000) is not first


def test_a_run_with_limits_mirrors_everything(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image("library/app", "1", layers=(bytes(300_000), b"other"))
    with opened(tmp_path, f"http://{upstream.host}", bytesPerSec="100MB") as run:
        assert mirror(run).complete
        assert visible(run.store) == ["library/app:1"]


@pytest.mark.parametrize("value", ["0", "-5", "fast", "[1]"])
def test_a_limit_that_is_no_size_is_refused(value: str) -> None:
    text = f"storage: {{rootDirectory: /s}}\nsync: {{bytesPerSec: {value}, registries: []}}\n"
    [problem] = problems(text)
    assert "sync.bytesPerSec: " in problem
    assert "write '50GiB', '500MB', or a number of bytes" in problem
