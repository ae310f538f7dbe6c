"""What connections, limits, logins and stops do to HEADs of many tags at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import Tag
from tasks.filter_tags.heads import ask_heads
from tasks.upstream.errors import Stopped
from tests.support.certificates import Authority
from tests.support_behaviours import (
    answers,
    hangs,
    json_answer,
    resets,
    well_behaved,
)
from tests.support_misbehaving import misbehaving
from tests.tasks.filter_tags.many_tags import NAME, ODD, OTHER, PATH, TAGS, opened_for, warm
from tests.tasks.upstream.clients import FakeTime, client
from tests.tasks.upstream.connection.cert_dirs import cert_dir
from tests.tasks.upstream.connection.test_tls import server_context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Exchange, Misbehaving


def _asked(upstream: Misbehaving) -> Counter[str]:
    return Counter(each.path.rpartition("/")[2] for each in upstream.requests("HEAD"))


def test_plain_answers_come_on_one_thread_with_one_head_a_tag(filled: Misbehaving, tmp_path: Path) -> None:
    with opened_for(tmp_path, filled) as run:
        assert not run.upstream.heads(NAME, TAGS).found, "opening connections is for others"
        warm(run, filled)
        before = run.upstream.requests()["HEAD manifest"]
        threads = threading.active_count()
        assert list(run.upstream.heads(NAME, TAGS).found)
        assert threading.active_count() == threads
        assert run.upstream.requests()["HEAD manifest"] == before + len(TAGS)
    assert _asked(filled) == dict.fromkeys(TAGS, 1)


def test_repositories_that_are_searched_at_once_are_asked_by_one_of_their_threads(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    names = [f"team/app{number}" for number in range(12)]
    images = {
        name: {tag: upstream.add_image(name, tag, (f"{name}{tag}".encode(),)) for tag in TAGS}
        for name in names
    }
    with opened_for(tmp_path, upstream) as run, ThreadPoolExecutor(6) as threads:
        found = dict(zip(names, threads.map(lambda name: ask_heads(run, name, TAGS), names), strict=True))
    for name in names:
        digests = {tag: getattr(head, "digest", head) for tag, head in found[name].items()}
        assert digests == {tag: images[name][tag].manifest.digest for tag in TAGS}
    assert len(upstream.requests("HEAD")) == len(names) * len(TAGS)


def test_repositories_of_one_tag_are_asked_once_each(upstream: Misbehaving, tmp_path: Path) -> None:
    names = [f"team/app{number}" for number in range(300)]
    for name in names:
        upstream.add_image(name, "1")
    with opened_for(tmp_path, upstream) as run, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda name: ask_heads(run, name, [Tag("1")]), names))
    assert not [each for each in found if isinstance(each[Tag("1")], MirrorflowError)]
    assert Counter(each.path for each in upstream.requests("HEAD")) == {
        f"/v2/{name}/manifests/1": 1 for name in names
    }


def test_no_more_requests_than_req_concurrent_are_under_way(filled: Misbehaving, tmp_path: Path) -> None:
    """Also beside others, who get their turn."""
    counter = _Concurrency()
    for tag in TAGS:
        filled.on(f"/v2/{NAME}/manifests/{tag}", counter)
    filled.on(f"/v2/{NAME}/tags/list", counter)
    with opened_for(tmp_path, filled, reqConcurrent=3) as run, ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask_heads, run, NAME, TAGS) for _ in range(2)]
        listed = [threads.submit(run.upstream.tags, NAME) for _ in range(20)]
    for each in asking:
        assert not [head for head in each.result().values() if isinstance(head, MirrorflowError)]
    assert all(each.result() == TAGS for each in listed)
    assert counter.most == 3


class _Concurrency:
    """Answers well, a little later, and counts how many wait at a time."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.002)
        with self._lock:
            self._now -= 1
        well_behaved(exchange)


def test_where_requests_have_a_rate_they_are_made_one_by_one(filled: Misbehaving) -> None:
    passed = FakeTime()
    with client(filled, time=passed, req_per_sec=10) as registry:
        for tag in TAGS[:11]:
            registry.head(NAME, tag)
            assert not registry.heads(NAME, [tag]).found
    assert passed.slept == pytest.approx(1.0)


def test_while_an_upstream_wants_us_to_be_slow_requests_are_made_one_by_one(filled: Misbehaving) -> None:
    with client(filled, time=FakeTime()) as registry:
        registry.head(NAME, TAGS[0])
        assert registry.heads(NAME, [TAGS[1]]).found
        filled.on(PATH, answers(429, Retry_After="2"), well_behaved)
        registry.head(NAME, ODD)
        assert not registry.heads(NAME, [TAGS[1]]).found
        for _ in range(20):  # each good answer brings the upstream nearer to its old rate
            registry.head(NAME, TAGS[0])
        assert registry.heads(NAME, [TAGS[1]]).found


def test_a_token_that_ends_in_between_is_renewed(filled: Misbehaving, tmp_path: Path) -> None:
    door = _Door(filled, good_for=25)
    with opened_for(tmp_path, filled) as run:
        for _ in range(3):
            found = ask_heads(run, NAME, TAGS)
            assert not [each for each in found.values() if isinstance(each, MirrorflowError)]
    assert door.tokens > 3
    refused = len(filled.requests("HEAD")) - 3 * len(TAGS)
    assert refused <= 8 * door.tokens, "each of those that were on their way when a token ended, once"


class _Door:
    """Lets tokens in, each for some requests."""

    def __init__(self, upstream: Misbehaving, good_for: int) -> None:
        self.tokens = 0
        self._left: dict[str, int] = {}
        self._good_for = good_for
        self._lock = threading.Lock()
        self._challenge = (
            f'Bearer realm="http://{upstream.host}/token",service="here",scope="repository:{NAME}:pull"'
        )
        upstream.on("/token", self._give)
        for tag in TAGS:
            upstream.on(f"/v2/{NAME}/manifests/{tag}", self._look)

    def _give(self, exchange: Exchange) -> None:
        with self._lock:
            self.tokens += 1
            self._left[f"Bearer t{self.tokens}"] = self._good_for
            answer = json_answer({"token": f"t{self.tokens}", "expires_in": 3600})
        answer(exchange)

    def _look(self, exchange: Exchange) -> None:
        with self._lock:
            shown = exchange.seen.headers.get("authorization", "")
            self._left[shown] = self._left.get(shown, 0) - 1
            welcome = self._left[shown] >= 0
        (well_behaved if welcome else answers(401, WWW_Authenticate=self._challenge))(exchange)


def test_the_next_url_is_asked_when_one_ends_in_between(tmp_path: Path) -> None:
    with misbehaving() as first, misbehaving() as second:
        for upstream in (first, second):
            for tag in TAGS:
                upstream.add_image(NAME, tag)
        with opened_for(tmp_path, first, urls=[f"http://{first.host}", f"http://{second.host}"]) as run:
            warm(run, first)
            for tag in TAGS[10:]:
                first.on(f"/v2/{NAME}/manifests/{tag}", resets)
            found = ask_heads(run, NAME, TAGS)
    assert not [each for each in found.values() if isinstance(each, MirrorflowError)]
    assert second.requests("HEAD")


def test_an_upstream_that_ends_its_connections_is_asked_for_all(filled: Misbehaving, tmp_path: Path) -> None:
    def closes(exchange: Exchange) -> None:
        well_behaved(exchange)
        exchange.close()

    for tag in TAGS[::3]:
        filled.on(f"/v2/{NAME}/manifests/{tag}", closes)
    with opened_for(tmp_path, filled) as run:
        found = ask_heads(run, NAME, TAGS)
    assert not [each for each in found.values() if isinstance(each, MirrorflowError)]


def test_over_tls_many_are_asked_at_once_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    folder = cert_dir(tmp_path / "certs", authority.cert)
    with misbehaving(context=server_context(authority.server())) as upstream:
        for tag in TAGS:
            upstream.add_image(NAME, tag)
        with opened_for(tmp_path, upstream, urls=[f"https://{upstream.host}"], certDir=str(folder)) as run:
            warm(run, upstream)
            assert set(run.upstream.heads(NAME, TAGS).found) == set(TAGS)


def test_through_a_proxy_requests_are_made_one_by_one(
    filled: Misbehaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{filled.host}")
    with opened_for(tmp_path, filled, urls=["http://registry.test"]) as run:
        for _ in range(2):
            found = ask_heads(run, NAME, TAGS)
            assert not [each for each in found.values() if isinstance(each, MirrorflowError)]
        assert not run.upstream.heads(NAME, TAGS).found
    assert filled.seen[0].target.startswith("http://registry.test/")


def test_a_stop_ends_all_who_wait(filled: Misbehaving, tmp_path: Path) -> None:
    stop = threading.Event()

    def stops(exchange: Exchange) -> None:
        stop.set()
        hangs(exchange)

    with (
        opened_for(tmp_path, filled, stop=stop, responseHeaderTimeout="1h") as run,
        ThreadPoolExecutor(3) as threads,
    ):
        warm(run, filled)
        for tag in TAGS[10:]:
            filled.on(f"/v2/{NAME}/manifests/{tag}", hangs)
        filled.on(f"/v2/{NAME}/manifests/{TAGS[10]}", stops)
        asking = [threads.submit(run.upstream.heads, NAME, tags) for tags in (TAGS, TAGS[20:], TAGS[:9])]
        # One that begins after the others were stopped finds no connection, and asks nothing.
        ended = [each.exception(30) for each in asking]
        assert {type(each) for each in ended} <= {Stopped, type(None)}
        assert any(ended)
        stop.clear()
        for tag in TAGS:
            filled.on(f"/v2/{NAME}/manifests/{tag}", well_behaved)
        assert len(ask_heads(run, NAME, TAGS)) == len(TAGS), "nobody has kept a slot"


def test_a_pull_limit_is_read_from_plain_answers(filled: Misbehaving, tmp_path: Path) -> None:
    for tag in TAGS:
        headers = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}
        filled.on(f"/v2/{NAME}/manifests/{tag}", answers(200, b"{}", Docker_Content_Digest=OTHER))
    with opened_for(tmp_path, filled) as run:
        warm(run, filled)
        assert run.upstream.budget() is None
        for tag in TAGS:
            filled.on(
                f"/v2/{NAME}/manifests/{tag}", answers(200, b"{}", Docker_Content_Digest=OTHER, **headers)
            )
        assert run.upstream.heads(NAME, TAGS).found
        budget = run.upstream.budget()
    assert budget is not None
    assert (budget.limit, budget.remaining) == (100, 76)
