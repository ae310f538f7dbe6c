"""One upstream hangs, and many clients want something of it: clients of its neighbours are served."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from flows.receiver.flow_run_executor import FlowRunExecutor
from profiles.model.registry_entry import RegistryEntry
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import Miss, Refusal
from tasks.on_demand.limits.breaker import Breaker, NotAskedNow
from tasks.on_demand.limits.bulkhead import QUESTIONS, Bulkhead, UpstreamBusy
from tests.on_demand.mirrors import document, minding, mirroring
from tests.support_misbehaving import hangs, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.on_demand.mirrors import Mirror
    from tests.support_misbehaving import Misbehaving

MANY: Final = 1000  # requests for different tags of the upstream that hangs


def entry_of(name: str, upstream: Misbehaving, **options: Any) -> dict[str, Any]:
    rules = [{"prefix": f"{name}/**"}]
    return {**document(f"http://{upstream.host}", content=rules, **options), "name": name}


def no_run(_feed: str) -> None:
    raise RuntimeError("there is no Prefect here")


@pytest.fixture
def executor() -> Iterator[FlowRunExecutor]:
    made = FlowRunExecutor(no_run)
    yield made
    made.close()


@pytest.fixture
def neighbour() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def miss(name: str, tag: str) -> Miss:
    return Miss("manifest", RepositoryName(name), Tag(tag))


class Flood:
    """`MANY` clients over sockets of their own; `answers` counts "503 with Retry-After" and the like."""

    def __init__(self, mirror: Mirror) -> None:
        self._host, _, self._port = mirror.host.partition(":")
        self.answers: Counter[str] = Counter()
        self._answered = threading.Condition()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask_all()))
        self._thread.start()

    def wait_for(self, count: int) -> None:
        with self._answered:
            assert self._answered.wait_for(lambda: self.answers.total() >= count, 120), self.answers

    def end(self) -> None:
        self._thread.join(120)

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._ask(number) for number in range(MANY)))

    async def _ask(self, number: int) -> None:
        reader, writer = await asyncio.open_connection(self._host, int(self._port))
        head = f"GET /v2/bad/app/manifests/v{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        answer = (await reader.read()).decode().lower()
        with self._answered:
            self.answers[f"{answer[9:12]}{' with Retry-After' * ('retry-after' in answer)}"] += 1
            self._answered.notify_all()
        writer.close()


def running_threads() -> Counter[str]:
    """By their pool."""
    return Counter(each.name.partition("_")[0] for each in threading.enumerate())


def pull(mirror: Mirror, repository: str, tag: str) -> None:
    """As a client does: the manifest, then what it names."""
    manifest = mirror.client.get(f"/v2/{repository}/manifests/{tag}")
    assert manifest.status_code == 200, manifest.text
    for each in (manifest.json()["config"], *manifest.json()["layers"]):
        assert mirror.client.get(f"/v2/{repository}/blobs/{each['digest']}").status_code == 200


def test_a_thousand_requests_for_an_upstream_that_hangs_do_not_delay_its_neighbour(
    tmp_path: Path, upstream: Misbehaving, neighbour: Misbehaving, executor: FlowRunExecutor
) -> None:
    """goharbor/harbor#18294 and #17934: also what was in the cache waited for an upstream out of order."""
    for tag in ("here", "cold"):
        neighbour.add_image("good/app", tag)
    upstream.add_image("bad/app", "here")
    for number in range(MANY):
        upstream.on(f"/v2/bad/app/manifests/v{number}", hangs)
    entries = entry_of("bad", upstream, responseHeaderTimeout="1h"), entry_of("good", neighbour)
    with mirroring(tmp_path, *entries, timeout=600, executor=executor) as mirror:
        pull(mirror, "good/app", "here")
        pull(mirror, "bad/app", "here")
        asked = len(upstream.requests(path="manifests"))
        before = running_threads()
        flood = Flood(mirror)
        flood.wait_for(MANY - QUESTIONS)
        pull(mirror, "good/app", "cold")
        pull(mirror, "good/app", "here")
        pull(mirror, "bad/app", "here")
        assert flood.answers == {"503 with Retry-After": MANY - QUESTIONS}, "the others still hang"
        at_once = RegistryEntry.model_fields["req_concurrent"].default
        threads = running_threads() - before
        assert threads["question"] <= 2 * at_once, "those that wait for their turn have none"
        assert threads["receiver-call"] <= QUESTIONS + 2 * at_once, "those that are refused have none"
        assert len(upstream.requests(path="manifests")) == asked + at_once
        upstream.closing.set()  # those that hang break off
        flood.end()
    assert flood.answers == {"503 with Retry-After": MANY}
    assert len(upstream.requests(path="manifests")) < QUESTIONS / 2, "the first failures speak for the others"


def test_the_first_time_out_answers_for_all_who_wait_for_their_turn(
    tmp_path: Path, upstream: Misbehaving, executor: FlowRunExecutor
) -> None:
    for number in range(100):
        upstream.on(f"/v2/bad/app/manifests/v{number}", hangs)
    entry = entry_of("bad", upstream, responseHeaderTimeout="1s", reqConcurrent=2)
    with minding(tmp_path, entry, executor=executor) as (_, service, *_), ThreadPoolExecutor(100) as clients:
        found = clients.map(lambda number: service.answer(miss("bad/app", f"v{number}"), 60), range(100))
        statuses = [each.status for each in found if isinstance(each, Refusal) and each.retry_after]
    assert Counter(statuses) == {504: 2, 503: 98}
    assert len(upstream.seen) == 2


ENTRY: Final = RegistryEntry.model_validate({"name": "r", "urls": ["https://r"], "reqConcurrent": 1})


@pytest.mark.parametrize(
    ("reason", "questions", "callers", "expected"),
    [
        ("within the share", 2, 2, None),
        ("one asks, and nobody may wait behind it", 1, 2, UpstreamBusy),
        ("one client waits already", 2, 1, UpstreamBusy),
    ],
    ids=str,
)
def test_the_share_of_an_upstream(
    reason: str, questions: int, callers: int, expected: type[Exception] | None
) -> None:
    bulkhead = Bulkhead(Breaker(), questions=questions, callers=callers)
    slow: Future[str] = Future()
    with bulkhead.asking(ENTRY), ThreadPoolExecutor(1) as other:
        waits = other.submit(bulkhead.result, slow, 60, ENTRY)
        while not bulkhead.callers(ENTRY):
            pass
        refused = bulkhead.refusal([ENTRY])
        try:
            bulkhead.result(Future[str](), 0, ENTRY)
        except TimeoutError:  # it was allowed to wait
            pass
        except UpstreamBusy as busy:
            refused = busy
        assert (type(refused) if refused else None) is expected, reason
        slow.set_result("it came")
        assert waits.result() == "it came"
    assert bulkhead.refusal([ENTRY]) is None
    assert bulkhead.result(slow, 0, ENTRY) == "it came"  # what is known is no wait


def test_a_question_is_refused_before_it_begins_only_if_no_upstream_takes_it() -> None:
    breaker = Breaker()
    bulkhead, other = Bulkhead(breaker), ENTRY.model_copy(update={"name": "other"})
    breaker.failed("r", "it does not answer")
    assert isinstance(bulkhead.refusal([ENTRY]), NotAskedNow)
    assert bulkhead.refusal([ENTRY, other]) is None
    breaker.failed("other", "it does not answer either")
    assert isinstance(bulkhead.refusal([ENTRY, other]), NotAskedNow)


def test_failures_of_one_moment_are_one_failure() -> None:
    """Else eight requests that time out together would make the first pause a minute."""
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(8):
        breaker.failed("r", "no answer within 30 s", began=-30.0)
    now[0] = 5.0
    assert breaker.refusal("r") is None
    breaker.failed("r", "no answer within 30 s", began=5.0)
    now[0] = 14.9
    assert breaker.refusal("r") is not None
