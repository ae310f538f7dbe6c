"""HEADs of many tags at once say what HEADs one by one say, whatever the upstream answers to one of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import Tag
from tasks.filter_tags.heads import ask_heads
from tasks.upstream.errors import Stopped, UpstreamContentError
from tasks.upstream.redirects import MAX_REDIRECTS
from tests.support.certificates import Authority
from tests.support_behaviours import (
    answers,
    get_only,
    hangs,
    json_answer,
    redirects,
    resets,
    says,
    well_behaved,
)
from tests.support_misbehaving import misbehaving
from tests.tasks.runs import opened
from tests.tasks.upstream.clients import FakeTime, client
from tests.tasks.upstream.connection.cert_dirs import cert_dir
from tests.tasks.upstream.connection.test_tls import server_context

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tasks.context.mirror_run import MirrorRun
    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

NAME = "library/nginx"
TAGS = [Tag(f"t{number:02}") for number in range(40)]
ODD = TAGS[20]
PATH = f"/v2/{NAME}/manifests/{ODD}"
OTHER = Digest.of(b"something else")


def _raw(*pieces: bytes, pause: float = 0.0) -> Behaviour:
    """Bytes as they are, and then the end of the connection."""

    def behave(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.write(piece)
            time.sleep(pause)
        exchange.close()

    return behave


def _head_of(body: bytes, *, length: bool = True) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Docker-Content-Digest: {OTHER}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode()


def _with_body(exchange: Exchange) -> None:
    """A body after an answer to HEAD, which nobody may send; the connection stays."""
    exchange.write(_head_of(b"surplus") + b"surplus")


def _with_late_body(exchange: Exchange) -> None:
    exchange.write(_head_of(b"surplus"))
    time.sleep(0.05)
    exchange.write(b"surplus")


# What is told of one tag, how often it is asked for by HEAD then, and how often by GET. A connection that
# ends without an answer costs one HEAD more where it was used before.
ANSWERS: dict[str, tuple[Sequence[Behaviour], Sequence[int], int]] = {
    "well": ([well_behaved], [1], 0),
    "not there": ([answers(404)], [1], 1),
    "only GET": ([get_only(405)], [1], 1),
    "no digest": ([answers(200, b"{}", Content_Type="application/json")], [1], 1),
    "no digest of ours": ([answers(200, b"{}", Docker_Content_Digest="md5:1234")], [1], 1),
    "another digest": ([answers(200, b"{}", Docker_Content_Digest=OTHER)], [1], 0),
    "two digests": (
        [_raw(_head_of(b"").replace(b"\r\n", f"\r\nDocker-Content-Digest: {OTHER}\r\n".encode(), 1))],
        [1],
        1,
    ),
    "a web page": ([answers(200, b"", Docker_Content_Digest=OTHER, Content_Type="text/html")], [1], 0),
    "denied": ([says(403, "DENIED", "not for you")], [1], 1),
    "asked to wait": ([answers(429, Retry_After="1"), well_behaved], [2], 0),
    "asked to wait for long": ([answers(429, Retry_After="3000")], [1], 0),
    "broken": ([answers(500)], [1], 1),
    "restarts": ([answers(503, Retry_After="0"), well_behaved], [2], 0),
    "redirects": ([redirects(f"/v2/{NAME}/manifests/{TAGS[3]}")], [1], 0),
    "redirects for ever": ([redirects(PATH)], [MAX_REDIRECTS + 1], 0),
    "hangs": ([hangs], [1], 0),
    "resets once": ([resets, well_behaved], [2], 0),
    "resets always": ([resets], [4, 5, 6], 0),
    "cut in its headers": ([_raw(b"HTTP/1.1 200 OK\r\nContent-Le")], [3], 0),
    "byte by byte": ([_raw(*(bytes([each]) for each in _head_of(b"")), pause=0.001)], [1], 0),
    "too slowly": ([_raw(*(bytes([each]) for each in _head_of(b"")), pause=0.05)], [1], 0),
    "no HTTP": ([_raw(b"SSH-2.0-OpenSSH_9.2\r\n")], [4, 5, 6], 0),
    "a body": ([_with_body], [1], 0),
    "a late body": ([_with_late_body], [1], 0),
    "no length": ([_raw(_head_of(b"", length=False))], [1], 0),
    "Connection: close": ([answers(200, b"{}", Docker_Content_Digest=OTHER, Connection="close")], [1], 0),
    "long headers": ([answers(200, b"{}", Docker_Content_Digest=OTHER, X_Filler="x" * 20_000)], [1], 0),
}


@pytest.fixture
def filled(upstream: Misbehaving) -> Misbehaving:
    for tag in TAGS:
        upstream.add_image(NAME, tag, layers=(tag.encode(),))
    return upstream


def _opened(folder: Path, upstream: Misbehaving, **entry: Any) -> AbstractContextManager[MirrorRun]:
    return opened(folder, f"http://{upstream.host}", **{"responseHeaderTimeout": "500ms"} | entry)


def _one_by_one(run: MirrorRun) -> dict[Tag, object]:
    return dict(run.each(lambda tag: run.upstream.head(NAME, tag), TAGS))


def _said(found: dict[Tag, Any]) -> dict[Tag, str]:
    return {tag: f"{type(each).__name__}: {each}" for tag, each in found.items()}


def _warm(run: MirrorRun, filled: Misbehaving) -> None:
    """Open connections, all that a run may have."""
    for _ in range(5):
        ask_heads(run, NAME, [tag for tag in TAGS if tag != ODD])
    filled.seen.clear()


def _asked(upstream: Misbehaving) -> Counter[str]:
    return Counter(each.path.rpartition("/")[2] for each in upstream.requests("HEAD"))


@pytest.mark.parametrize(("behaviours", "heads", "gets"), ANSWERS.values(), ids=ANSWERS)
def test_many_at_once_say_of_each_tag_what_one_by_one_says(
    filled: Misbehaving, tmp_path: Path, behaviours: Sequence[Behaviour], heads: Sequence[int], gets: int
) -> None:
    filled.on(PATH, *behaviours)
    with _opened(tmp_path / "a", filled) as run:
        alone = _one_by_one(run)
    filled.on(PATH, well_behaved)
    with _opened(tmp_path / "b", filled) as run:
        _warm(run, filled)
        filled.on(PATH, *behaviours)
        together = ask_heads(run, NAME, TAGS)
    assert list(together) == TAGS
    assert _said(together)[ODD] == _said(alone)[ODD]
    for tag in TAGS:
        told = {_said(together)[tag], _said(alone)[tag]}
        assert len(told) == 1 or any("asked us to wait" in each for each in told), (
            "what comes after is refused"
        )
    assert len(filled.requests("HEAD", ODD)) in heads
    assert len(filled.requests("GET", ODD)) == gets


def test_a_digest_that_is_answered_with_another_one_is_an_error_as_alone(
    filled: Misbehaving, tmp_path: Path
) -> None:
    digests = [filled.add_image(NAME, tag, (f"new {tag}".encode(),)).manifest.digest for tag in TAGS]
    filled.on(f"/v2/{NAME}/manifests/{digests[5]}", answers(200, b"{}", Docker_Content_Digest=OTHER))
    with _opened(tmp_path, filled) as run:
        _warm(run, filled)
        found = ask_heads(run, NAME, digests)
        with pytest.raises(UpstreamContentError) as alone:
            run.upstream.head(NAME, digests[5])
    assert str(found.pop(digests[5])) == str(alone.value)
    assert {digest: getattr(head, "digest", head) for digest, head in found.items()} == {
        digest: digest for digest in digests if digest != digests[5]
    }


def test_plain_answers_come_on_one_thread_with_one_head_a_tag(filled: Misbehaving, tmp_path: Path) -> None:
    with _opened(tmp_path, filled) as run:
        assert not run.upstream.heads(NAME, TAGS).found, "opening connections is for others"
        _warm(run, filled)
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
    with _opened(tmp_path, upstream) as run, ThreadPoolExecutor(6) as threads:
        found = dict(zip(names, threads.map(lambda name: ask_heads(run, name, TAGS), names), strict=True))
    for name in names:
        digests = {tag: getattr(head, "digest", head) for tag, head in found[name].items()}
        assert digests == {tag: images[name][tag].manifest.digest for tag in TAGS}
    assert len(upstream.requests("HEAD")) == len(names) * len(TAGS)


def test_repositories_of_one_tag_are_asked_once_each(upstream: Misbehaving, tmp_path: Path) -> None:
    names = [f"team/app{number}" for number in range(300)]
    for name in names:
        upstream.add_image(name, "1")
    with _opened(tmp_path, upstream) as run, ThreadPoolExecutor(8) as threads:
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
    with _opened(tmp_path, filled, reqConcurrent=3) as run, ThreadPoolExecutor(4) as threads:
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
    with _opened(tmp_path, filled) as run:
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
        with _opened(tmp_path, first, urls=[f"http://{first.host}", f"http://{second.host}"]) as run:
            _warm(run, first)
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
    with _opened(tmp_path, filled) as run:
        found = ask_heads(run, NAME, TAGS)
    assert not [each for each in found.values() if isinstance(each, MirrorflowError)]


def test_over_tls_many_are_asked_at_once_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    folder = cert_dir(tmp_path / "certs", authority.cert)
    with misbehaving(context=server_context(authority.server())) as upstream:
        for tag in TAGS:
            upstream.add_image(NAME, tag)
        with _opened(tmp_path, upstream, urls=[f"https://{upstream.host}"], certDir=str(folder)) as run:
            _warm(run, upstream)
            assert set(run.upstream.heads(NAME, TAGS).found) == set(TAGS)


def test_through_a_proxy_requests_are_made_one_by_one(
    filled: Misbehaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{filled.host}")
    with _opened(tmp_path, filled, urls=["http://registry.test"]) as run:
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
        _opened(tmp_path, filled, stop=stop, responseHeaderTimeout="1h") as run,
        ThreadPoolExecutor(3) as threads,
    ):
        _warm(run, filled)
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
    with _opened(tmp_path, filled) as run:
        _warm(run, filled)
        assert run.upstream.budget() is None
        for tag in TAGS:
            filled.on(
                f"/v2/{NAME}/manifests/{tag}", answers(200, b"{}", Docker_Content_Digest=OTHER, **headers)
            )
        assert run.upstream.heads(NAME, TAGS).found
        budget = run.upstream.budget()
    assert budget is not None
    assert (budget.limit, budget.remaining) == (100, 76)
