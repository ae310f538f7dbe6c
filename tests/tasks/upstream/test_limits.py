"""How much of a host we use, and how long we wait when it has had enough."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from tasks.upstream.answers import retry_after
from tasks.upstream.budget import Budget, read_budget
from tasks.upstream.connection.hosts import HostLimits
from tasks.upstream.connection.waits import Waits
from tasks.upstream.errors import Stopped, UpstreamLimited
from tests.support_behaviours import answers, says
from tests.support_misbehaving import well_behaved
from tests.tasks.upstream.clients import FakeTime, client

if TYPE_CHECKING:
    from tests.support_misbehaving import Exchange, Misbehaving

NAME = "library/nginx"
PATH = f"/v2/{NAME}/manifests/1.25"
NOW = datetime(2026, 10, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "text", "expected"),
    [
        ("120", "", 120),
        ("0", "", 0),
        ("1.5", "", 1.5),
        ("-3", "", 0),
        ("Thu, 01 Oct 2026 12:00:30 GMT", "", 30),
        ("Thu, 01 Oct 2026 14:00:30 +0200", "", 30),
        ("Thu, 01 Oct 2026 12:00:30 -0000", "", 30),
        ("Thu, 01 Oct 2026 11:00:00 GMT", "", 0),
        ("soon", "", None),
        ("nan", "", None),
        ("inf", "", None),
        ("", "", None),
        ("", "retry-after: 880.092µs, allowed: 44000/minute", 880.092e-6),
        ("", "Retry-After: 1m30.5s, allowed: 1/minute", 90.5),
        ("", "retry-after: 2h", 7200),
        ("", "please wait", None),
        ("7", "retry-after: 2h", 7),
        ("9" * 400, "", None),
        ("Thu, 01 Oct 99999999 12:00:30 GMT", "", None),
    ],
)
def test_the_wait_that_is_asked_for(header: str, text: str, expected: float | None) -> None:
    headers = httpx.Headers({"Retry-After": header} if header else {})
    found = retry_after(headers, text, now=NOW)
    assert found == (None if expected is None else pytest.approx(expected))


def test_retry_after_is_waited_for(upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1.25")
    upstream.on(PATH, says(429, "TOOMANYREQUESTS", "slow down", Retry_After="20"), well_behaved)
    time = FakeTime()
    with client(upstream, time=time) as registry:
        assert registry.head(NAME, "1.25").digest == image.manifest.digest
    assert time.slept == pytest.approx(20, abs=1)


def test_a_long_retry_after_is_left_to_the_profile(upstream: Misbehaving) -> None:
    upstream.on(PATH, answers(429, Retry_After="3600"))
    time = FakeTime()
    with client(upstream, time=time) as registry, pytest.raises(UpstreamLimited, match="429") as caught:
        registry.head(NAME, "1.25")
    assert caught.value.retry_after == 3600
    assert caught.value.retryable
    assert time.slept == 0


def test_the_hint_in_ghcrs_text_is_taken(upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1.25")
    hint = says(429, "TOOMANYREQUESTS", "retry-after: 3.5s, allowed: 44000/minute")
    upstream.on(f"/v2/{NAME}/manifests/{image.manifest.digest}", hint, well_behaved)
    time = FakeTime()
    with client(upstream, time=time) as registry:
        registry.manifest(NAME, image.manifest.digest)
    assert time.slept == pytest.approx(3.5, abs=0.2)


def test_after_a_429_requests_go_out_one_by_one_and_then_faster_again() -> None:
    time = FakeTime()
    limits = HostLimits(Waits(clock=time.clock, sleep=time.sleep), concurrent=4)

    def gap() -> float:
        before = time.slept
        limits.acquire()
        limits.release()
        return time.slept - before

    assert gap() == gap() == 0
    limits.limited(10)
    assert gap() == pytest.approx(10)
    assert gap() == pytest.approx(0.05)
    limits.limited(0)
    assert gap() == pytest.approx(0.05)
    assert gap() == pytest.approx(0.1)
    for _ in range(20):
        limits.welcome()
    gap()
    assert gap() == 0


def test_429s_of_requests_that_were_on_their_way_slow_us_down_once() -> None:
    time = FakeTime()
    limits = HostLimits(Waits(clock=time.clock, sleep=time.sleep), concurrent=8)
    for _ in range(8):
        limits.limited(None)
    for expected in (1, 0.05, 0.05):
        before = time.slept
        limits.acquire()
        limits.release()
        assert time.slept - before == pytest.approx(expected)


def test_a_rate_that_nobody_tells_is_found(upstream: Misbehaving) -> None:
    """Ten requests a second are allowed, and a 429 says nothing more: all are answered in the end."""
    time, spent = FakeTime(), list[float]()
    upstream.add_image(NAME, "1.25")

    def allow(exchange: Exchange) -> None:
        lately = [each for each in spent if time.now - each < 1]
        if len(lately) >= 10:
            answers(429)(exchange)
        else:
            spent.append(time.now)
            well_behaved(exchange)

    upstream.on(PATH, allow)
    with client(upstream, time=time) as registry:
        for _ in range(100):
            registry.head(NAME, "1.25")
    assert len(upstream.seen) <= 130, "most requests are answered the first time"
    assert time.slept <= 30


def test_a_host_that_wants_an_hour_is_not_asked_in_between(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.on(PATH, answers(429, Retry_After="3600"), well_behaved)
    time = FakeTime()
    with client(upstream, time=time) as registry:
        for reason in ("429 Too Many Requests", "127.0.0.1 asked us to wait, for 1 h more"):
            with pytest.raises(UpstreamLimited, match=reason) as caught:
                registry.head(NAME, "1.25")
            assert caught.value.retry_after == 3600
        assert len(upstream.seen) == 1
        time.sleep(3601)
        registry.head(NAME, "1.25")


def test_an_hour_is_the_longest_that_a_host_is_left_alone(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.on(PATH, answers(429, Retry_After="9999999999"), well_behaved)
    time = FakeTime()
    with client(upstream, time=time) as registry:
        with pytest.raises(UpstreamLimited):
            registry.head(NAME, "1.25")
        time.sleep(3601)
        registry.head(NAME, "1.25")


def test_requests_per_second_are_kept() -> None:
    time = FakeTime()
    limits = HostLimits(Waits(clock=time.clock, sleep=time.sleep), concurrent=4, per_second=10)
    for _ in range(21):
        limits.acquire()
        limits.release()
    assert time.slept == pytest.approx(2)


def test_a_stop_gives_back_the_slot() -> None:
    stop = False
    limits = HostLimits(Waits(lambda: stop), concurrent=1)
    stop = True
    with pytest.raises(Stopped):
        limits.acquire()
    stop = False
    limits.acquire()
    limits.release()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param(
            {
                "ratelimit-limit": "100;w=21600",
                "ratelimit-remaining": "20;w=21600",
                "docker-ratelimit-source": "1.2.3.4",
            },
            Budget(100, 20, 21600, "1.2.3.4"),
            id="as Docker Hub says it",
        ),
        pytest.param(
            {"RateLimit-Limit": "10", "RateLimit-Remaining": "3"},
            Budget(10, 3, 21600),
            id="without a window: Docker Hub's",
        ),
        pytest.param(
            {"ratelimit-limit": "100;w=3600", "ratelimit-remaining": "20"},
            Budget(100, 20, 3600),
            id="a window of one of them",
        ),
        pytest.param(
            {"ratelimit-limit": "1;w=999999999", "ratelimit-remaining": "0"},
            Budget(1, 0, 86400),
            id="a run would wait for 31 years",
        ),
        pytest.param({"ratelimit-limit": "many", "ratelimit-remaining": "20"}, None, id="no number"),
        pytest.param({"ratelimit-remaining": "20"}, None, id="no limit"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_pull_limits_are_read_and_never_assumed(headers: dict[str, str], expected: Budget | None) -> None:
    assert read_budget(httpx.Headers(headers)) == expected


class Metered:
    """A hub: a GET of a manifest costs one pull, a HEAD nothing; with a clock, pulls come back over time."""

    def __init__(self, limit: int, remaining: int, time: FakeTime | None = None) -> None:
        self.limit, self.remaining, self.window = limit, float(remaining), 21600
        self.least = self.remaining
        self._time, self._before = time, time.now if time else 0.0

    def __call__(self, exchange: Exchange) -> None:
        if self._time:
            self.remaining += (self._time.now - self._before) * self.limit / self.window
            self._before = self._time.now
        head = exchange.seen.method == "HEAD"
        self.remaining -= 0 if head else 1
        self.least = min(self.least, self.remaining)
        headers = {
            "ratelimit-limit": f"{self.limit};w={self.window}",
            "ratelimit-remaining": f"{max(int(self.remaining), 0)};w={self.window}",
            "docker-ratelimit-source": "192.0.2.1",
            "Content-Type": media_types.OCI_MANIFEST,
            "Docker-Content-Digest": Digest.of(b"{}"),
        }
        if self.remaining < 0 and not head:
            exchange.answer(429, b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "limit"}]}', headers)
        else:
            exchange.answer(200, b"{}", headers)


def test_the_pull_limit_is_reported(upstream: Misbehaving) -> None:
    upstream.on(PATH, Metered(100, 50))
    with client(upstream) as registry:
        assert registry.budget() is None
        registry.manifest(NAME, "1.25")
        assert registry.budget() == Budget(100, 49, 21600, "192.0.2.1")


def test_a_run_waits_for_pulls_instead_of_running_into_the_limit(upstream: Misbehaving) -> None:
    time = FakeTime()
    hub = Metered(100, 4, time)
    upstream.on(PATH, hub)
    with client(upstream, time=time) as registry:
        for _ in range(6):
            registry.manifest(NAME, "1.25")
        budget = registry.budget()
    assert hub.least >= 1, "some are left for the others behind the same address"
    assert budget is not None
    assert budget.waited == pytest.approx(time.slept)
    assert 4 * 216 <= time.slept <= 6 * 216, "a pull comes back every window/limit seconds"


def test_a_429_of_the_pull_limit_waits_too(upstream: Misbehaving) -> None:
    time = FakeTime()
    upstream.on(PATH, Metered(100, 0, time))
    with client(upstream, time=time) as registry:
        assert registry.manifest(NAME, "1.25").body == b"{}"


def test_waiting_for_pulls_ends_with_the_window(upstream: Misbehaving) -> None:
    upstream.on(PATH, Metered(100, 0))
    time = FakeTime()
    with (
        client(upstream, time=time) as registry,
        pytest.raises(UpstreamLimited, match="pull limit is used up"),
    ):
        registry.manifest(NAME, "1.25")
    assert 21000 < time.slept < 22000


def test_a_limit_that_contradicts_itself_is_not_waited_for_for_ever(upstream: Misbehaving) -> None:
    def contradicts(exchange: Exchange) -> None:
        head = exchange.seen.method == "HEAD"
        left = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "50" if head else "0"}
        exchange.answer(200 if head else 429, b"", left)

    upstream.on(PATH, contradicts)
    with client(upstream) as registry, pytest.raises(UpstreamLimited, match="429"):
        registry.manifest(NAME, "1.25")
    assert len(upstream.requests("GET")) == 3


def test_waiting_for_pulls_can_be_stopped(upstream: Misbehaving) -> None:
    upstream.on(PATH, Metered(100, 0))
    time = FakeTime()
    with client(upstream, time=time, cancelled=lambda: time.slept > 500) as registry, pytest.raises(Stopped):
        registry.manifest(NAME, "1.25")
    assert time.slept < 501


def test_an_image_that_is_not_metered_does_not_wait(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "free")
    upstream.on(PATH, Metered(100, 1))
    time = FakeTime()
    with client(upstream, time=time) as registry:
        registry.head(NAME, "1.25")
        registry.manifest(NAME, "free")
    assert time.slept == 0
