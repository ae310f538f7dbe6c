"""What is here is served: fresh without a question, else after one HEAD, and as it is when upstream fails."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from flows.demo.sample_images import ImageMaker, layer
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import Origin, TagRecord
from tasks.on_demand import context
from tasks.on_demand.answers import Local, Miss, Push, Refusal
from tasks.on_demand.limits import breaker
from tasks.on_demand.limits.breaker import Breaker, NotAskedNow
from tasks.on_demand.limits.bulkhead import Bulkhead, NotChecked, in_time
from tasks.upstream.errors import UpstreamNotFound, UpstreamUnavailable, Where
from tests.on_demand.mirrors import document, minding, mirroring
from tests.support_misbehaving import Misbehaving, answers, hangs, misbehaving, resets, well_behaved
from tests.tasks.runs import assert_complete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.on_demand.mirrors import Mirror

MISS = Miss("manifest", RepositoryName("library/nginx"), Tag("1.25"))
MANIFEST = "/v2/library/nginx/manifests/1.25"


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def bring(mirror: Mirror) -> str:
    """The digest of the image, which is here as a whole then."""
    got = mirror.client.get(MANIFEST)
    assert got.status_code == 200, got.text
    mirror.work.wait()
    assert_complete(mirror.store, "library/nginx:1.25")
    return got.headers["Docker-Content-Digest"]


def test_a_fresh_tag_is_served_without_a_question(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("library/nginx", "1.25")
    with mirroring(tmp_path, document(f"http://{upstream.host}", manifestCheckInterval="1h")) as mirror:
        bring(mirror)
        asked = len(upstream.seen)
        assert [mirror.client.get(MANIFEST).status_code for _ in range(5)] == [200] * 5
    assert len(upstream.seen) == asked


def test_a_tag_that_is_not_fresh_costs_one_head_and_no_get(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("library/nginx", "1.25")
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        bring(mirror)
        asked = len(upstream.seen)
        got = mirror.client.get(MANIFEST)
        assert "Warning" not in got.headers
    assert [each.method for each in upstream.seen[asked:]] == ["HEAD"]


def test_questions_for_a_tag_are_one_question(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("library/nginx", "1.25")
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        bring(mirror)
        asked = len(upstream.seen)
        upstream.on(MANIFEST, _slowly)
        with ThreadPoolExecutor(20) as clients:
            got = list(clients.map(lambda _: mirror.client.get(MANIFEST).status_code, range(20)))
    assert got == [200] * 20
    assert len(upstream.seen) - asked <= 3  # who comes after the answer asks anew


def _slowly(exchange: Any) -> None:
    time.sleep(0.5)
    well_behaved(exchange)


def test_a_tag_that_moved_is_answered_anew_and_moves_when_all_is_here(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    upstream.add_image("library/nginx", "1.25", layers=(b"old",))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        before = bring(mirror)
        moved = upstream.add_image("library/nginx", "1.25", layers=(b"new",))
        assert bring(mirror) == moved.manifest.digest != before
        record = mirror.store.repository(RepositoryName("library/nginx")).tag(Tag("1.25"))
        assert record is not None
        assert record.digest == moved.manifest.digest


def test_what_a_poll_or_a_push_brings_meanwhile_is_served_at_once(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """The server remembers what a fresh tag names: until the store says something else."""
    upstream.add_image("library/nginx", "1.25", layers=(b"old",))
    with mirroring(tmp_path, document(f"http://{upstream.host}", manifestCheckInterval="1h")) as mirror:
        before = bring(mirror)
        moved = upstream.add_image("library/nginx", "1.25", layers=(b"new",))
        assert bring(mirror) == before
        assert mirror.service.pushed(Push(MISS.repository, Tag("1.25"))) == 1
        mirror.work.wait()
        assert bring(mirror) == moved.manifest.digest


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param(None, id="pushed"),
        pytest.param("registry2", id="from another entry"),
    ],
)
def test_a_tag_from_elsewhere_is_not_taken_over(
    tmp_path: Path, upstream: Misbehaving, origin: str | None
) -> None:
    """Invariant 5: upstream has the name too, and never gave what is here."""
    upstream.add_image("library/nginx", "1.25", layers=(b"theirs",))
    polled = {"name": "registry2", "urls": ["http://127.0.0.1:1"], "content": [{"prefix": "library/*"}]}
    with minding(tmp_path, document(f"http://{upstream.host}"), polled) as (_, service, store, _):
        repository = store.repository(RepositoryName("library/nginx"))
        ours = ImageMaker(repository).image([layer("ours", 10)])
        came = Origin(origin, "library/nginx", ours.digest) if origin else None
        record = TagRecord(ours.digest, ours.media_type, ours.size, 0.0, came)
        repository.put_tag(Tag("1.25"), record)
        got = service.answer(MISS, 20)
        assert isinstance(got, Local)
        assert not got.warning
        assert repository.tag(Tag("1.25")) == record
    assert upstream.seen == []


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(answers(503), id="503"),
        pytest.param(answers(429, b"", **{"Retry-After": "3600"}), id="429"),
        pytest.param(answers(401), id="401"),
        pytest.param(answers(404), id="gone"),
        pytest.param(resets, id="reset"),
        pytest.param(hangs, id="hangs"),
    ],
)
def test_when_upstream_fails_what_is_here_is_served_with_a_warning(
    tmp_path: Path, upstream: Misbehaving, behaviour: Callable[[Any], None]
) -> None:
    upstream.add_image("library/nginx", "1.25")
    entry = document(f"http://{upstream.host}", connectTimeout="0.5s")
    with minding(tmp_path, entry) as (_, service, _, work):
        service.answer(MISS, 20)
        work.wait()
        upstream.on(MANIFEST, behaviour)
        got = service.answer(MISS, 20)
    assert isinstance(got, Local)
    assert got.warning.startswith("not checked: ")


def test_an_upstream_that_hangs_delays_one_request(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("library/nginx", "1.25")
    with mirroring(tmp_path, document(f"http://{upstream.host}", connectTimeout="0.5s")) as mirror:
        bring(mirror)
        upstream.on(MANIFEST, hangs)
        first = mirror.client.get(MANIFEST)
        assert first.headers["Warning"].startswith('299 - "not checked: ')
        asked = len(upstream.seen)
        for _ in range(10):
            assert mirror.client.get(MANIFEST).status_code == 200
        assert len(upstream.seen) == asked  # it is left alone for some seconds


def test_to_leave_an_upstream_alone_is_an_answer_and_no_failed_step(
    tmp_path: Path, upstream: Misbehaving, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.add_image("library/nginx", "1.25")
    with mirroring(tmp_path, document(f"http://{upstream.host}", connectTimeout="0.5s")) as mirror:
        bring(mirror)
        upstream.on(MANIFEST, hangs)
        mirror.client.get(MANIFEST)
        absent = MANIFEST.replace("1.25", "1.26")
        assert mirror.client.get(absent).status_code == 503
    assert "asked again in" not in caplog.text


def test_who_comes_while_the_first_question_still_hangs_does_not_wait_for_it(tmp_path: Path) -> None:
    """The question of the first one goes on until `responseHeaderTimeout`, and is shared by equal ones."""
    with minding(tmp_path, document("http://127.0.0.1:1")) as (profile, *_):
        entry, guard, question = profile.sync.registries[0], Bulkhead(Breaker()), Future[None]()
        with pytest.raises(NotChecked, match="did not answer within"):
            in_time(question, 0.01, entry, guard)
        with pytest.raises(NotChecked, match="did not answer within"):
            in_time(question, 3600, entry, guard)  # an hour, if it waited


@pytest.mark.parametrize(
    ("behaviour", "status", "retry_after"),
    [
        pytest.param(answers(503), 502, True, id="503"),
        pytest.param(answers(429, b"", **{"Retry-After": "3600"}), 503, True, id="429"),
        pytest.param(answers(401), 404, False, id="401, as public registries say of what is not there"),
        pytest.param(answers(404), 404, False, id="404"),
        pytest.param(resets, 503, True, id="reset"),
        pytest.param(hangs, 504, True, id="hangs"),
        pytest.param(answers(200, b"<html>", **{"Content-Type": "text/html"}), 502, False, id="a web page"),
        pytest.param(answers(200, b"{}"), 502, False, id="no manifest"),
    ],
)
def test_when_nothing_is_here_the_status_says_why(
    tmp_path: Path, upstream: Misbehaving, behaviour: Callable[[Any], None], status: int, *, retry_after: bool
) -> None:
    upstream.on(MANIFEST, behaviour)
    with minding(tmp_path, document(f"http://{upstream.host}", responseHeaderTimeout="0.5s")) as (
        _,
        service,
        *_,
    ):
        got = service.answer(MISS, 20)
    assert isinstance(got, Refusal)
    assert got.status == status
    assert (got.retry_after is not None) == retry_after
    assert upstream.host in got.cause


def test_without_the_receiver_what_is_here_is_served(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("library/nginx", "1.25")
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        digest = bring(mirror)
        mirror.stop_receiver()
        got = mirror.client.get(MANIFEST)
        assert (got.status_code, got.headers["Docker-Content-Digest"]) == (200, digest)
        assert "Warning" in got.headers
        missing = mirror.client.get("/v2/library/nginx/manifests/1.26")
        assert (missing.status_code, missing.headers["Retry-After"]) == (503, "2")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _fail(guard: Breaker, error: Exception) -> str:
    try:
        with guard.guarding("r"):
            raise error
    except NotAskedNow:
        return "not asked"
    except Exception as found:  # noqa: BLE001 - what was raised is the result
        return type(found).__name__


def test_the_pause_doubles_and_one_good_answer_ends_it() -> None:
    clock = Clock()
    guard = Breaker(clock)
    down = UpstreamUnavailable(Where("r"), "no connection")
    for pause in (5, 10, 20, 40, 60, 60):
        assert _fail(guard, down) == "UpstreamUnavailable"
        clock.now += pause - 1
        assert _fail(guard, down) == "not asked"
        clock.now += 1
    assert _fail(guard, UpstreamNotFound(Where("r"), "not there")) == "UpstreamNotFound"
    assert _fail(guard, down) == "UpstreamUnavailable"
    clock.now += 5
    assert _fail(guard, down) == "UpstreamUnavailable"


def test_while_one_tries_again_the_others_wait_for_what_it_finds() -> None:
    clock = Clock()
    guard = Breaker(clock)
    guard.failed("r", "down")
    clock.now += breaker.FIRST_PAUSE
    with guard.guarding("r"), pytest.raises(NotAskedNow), guard.guarding("r"):
        pass
    with guard.guarding("r"):
        pass


def test_who_says_how_long_a_connection_may_take_says_how_long_a_client_waits() -> None:
    from profiles.model.registry_entry import RegistryEntry

    entry = {"urls": ["https://r"]}
    assert context.revalidation_seconds(RegistryEntry.model_validate(entry)) == context.REVALIDATION_SECONDS
    assert context.revalidation_seconds(RegistryEntry.model_validate(entry | {"connectTimeout": "7s"})) == 7.0
