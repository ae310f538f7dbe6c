"""Clients that ask for what does not exist, without end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from registry_server.http.access_log import USER
from registry_server.http.errors import Refused
from registry_server.http.pull_through.miss_rate_limit import MissRateLimit, client_of
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import Miss, Refusal
from tasks.on_demand.limits.timed_cache import TimedCache
from tests.on_demand.mirrors import document, minding, mirroring

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

MANIFEST = "/v2/library/app/manifests"


def asks(address: str = "192.0.2.1", user: str | None = None) -> Request:
    scope: dict[str, Any] = {"type": "http", "client": (address, 1), USER: user}
    return Request(scope)


def test_a_name_that_does_not_exist_costs_one_request_upstream(tmp_path: Path, upstream: Misbehaving) -> None:
    """An answer of 404 is remembered for some seconds (docs/on-demand.md)."""
    upstream.add_image("library/app", "1")
    with minding(tmp_path, document(f"http://{upstream.host}")) as (_, service, *_):
        for _ in range(5):
            answer = service.answer(Miss("manifest", RepositoryName("library/app"), Tag("nope")), 20)
            assert isinstance(answer, Refusal)
            assert answer.status == 404
    assert len(upstream.seen) == 1


def test_what_is_remembered_of_names_is_bounded() -> None:
    remembered: TimedCache[int, str] = TimedCache(100)
    for number in range(10_000):
        remembered.put(number, "is not there")
    assert [key for key, _ in remembered.items()] == list(range(9_900, 10_000))


def test_a_client_that_asks_for_what_is_not_there_is_told_to_wait_and_gets_what_is_here(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    upstream.add_image("library/app", "1")
    upstream.add_image("library/app", "2")
    limited = {"http": {"onMiss": {"failuresPerMinute": 3}}}
    with mirroring(tmp_path, document(f"http://{upstream.host}"), more=limited) as mirror:
        assert mirror.client.get(f"{MANIFEST}/1").status_code == 200  # it came, and is not counted
        mirror.work.wait()
        paths = ("manifests/no1", f"manifests/sha256:{'0' * 64}", "manifests/no2")
        found = [mirror.client.get(f"/v2/library/app/{path}").status_code for path in paths]
        assert found == [404, 404, 404]
        asked = len(upstream.seen)
        for path in (f"{MANIFEST}/no3", f"{MANIFEST}/2", "/v2/library/other/tags/list"):
            refused = mirror.client.get(path)
            assert (refused.status_code, refused.json()["errors"][0]["code"]) == (429, "TOOMANYREQUESTS")
            assert 1 <= int(refused.headers["Retry-After"]) <= 20
        assert len(upstream.seen) == asked
        assert mirror.client.get(f"{MANIFEST}/1").status_code == 200
        assert mirror.client.get("/v2/library/app/tags/list").json()["tags"] == ["1"]


@pytest.mark.parametrize(
    ("per_minute", "statuses", "seconds", "expected"),
    [
        pytest.param(0, [404] * 5, 0, "goes on", id="without a limit"),
        pytest.param(2, [404, 404], 0, "has to wait", id="all are used up"),
        pytest.param(2, [200, 404, 200, 200], 0, "goes on", id="what succeeds is free"),
        pytest.param(2, [404, 404], 29, "has to wait", id="half a minute is not over"),
        pytest.param(2, [404, 404], 31, "goes on", id="half a minute gives half of them back"),
    ],
)
def test_the_bucket_of_a_client(per_minute: int, statuses: list[int], seconds: float, expected: str) -> None:
    now = [0.0]
    limit = MissRateLimit(per_minute, lambda: now[0])
    for status in statuses:
        request = asks()
        limit.take(request)
        limit.settle(request, status)
    now[0] += seconds
    if expected == "has to wait":
        with pytest.raises(Refused) as refused:
            limit.take(asks())
        assert refused.value.status == 429
    else:
        limit.take(asks())
    limit.take(asks("192.0.2.2"))  # another one is not concerned


@pytest.mark.parametrize(
    ("request_", "client"),
    [
        pytest.param(asks("192.0.2.1"), "192.0.2.1", id="an address"),
        pytest.param(asks("2001:db8::1:2:3"), "2001:db8::/64", id="one of many addresses that a client has"),
        pytest.param(asks("::ffff:192.0.2.1"), "::ffff:192.0.2.1", id="IPv4 on a socket for both"),
        pytest.param(asks("192.0.2.1", "ann"), "user:ann", id="a user, wherever"),
        pytest.param(asks(""), "", id="a socket without an address"),
    ],
)
def test_who_a_client_is(request_: Request, client: str) -> None:
    assert client_of(request_) == client
