"""Who is told what, and how often: real runs, a real receiver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from flows.reporting.notify.notifier import ROLE
from tests.flows.notify.telling import changes
from tests.support_misbehaving import answers, well_behaved
from tests.tasks.trust.attacker import policy

if TYPE_CHECKING:
    from tests.flows.notify.telling import Telling

FAILS = answers(500)


def test_a_run_that_succeeds_is_told_to_nobody(telling: Telling) -> None:
    assert telling.run() == []


def test_a_failure_is_told_once_when_it_begins_and_once_when_it_ends(telling: Telling) -> None:
    telling.upstream.on("/v2/app/tags/list", FAILS)
    (first,) = telling.run()
    assert changes([first]) == [("runFailed", "began", "up")]
    assert "500" in first["data"]["changes"][0]["reason"]
    assert telling.run() == []
    telling.upstream.on("/v2/app/tags/list", well_behaved)
    assert changes(telling.run()) == [("runFailed", "ended", "up")]
    assert telling.run() == []


def test_several_refused_images_are_one_message_and_so_is_their_end(telling: Telling) -> None:
    telling.upstream.add_image("app", "2", (b"two",))
    telling.notify = [telling.receiver(events=["imageRefused"])]
    telling.more = policy()
    refused = [("imageRefused", "began", "app:1"), ("imageRefused", "began", "app:2")]
    assert changes(telling.run()) == refused
    assert telling.run() == []
    telling.more = {}
    told = telling.run()
    assert len(told) == 1
    assert changes(told) == [(event, "ended", image) for event, _, image in refused]


def test_another_refused_digest_of_a_tag_is_told_anew(telling: Telling) -> None:
    telling.notify = [telling.receiver(events=["imageRefused"])]
    telling.more = policy()
    (first,) = telling.run()
    telling.upstream.add_image("app", "1", (b"another",))
    (second,) = telling.run()
    assert changes([first]) == changes([second]) == [("imageRefused", "began", "app:1")]
    digests = {body["data"]["changes"][0]["digest"] for body in (first, second)}
    assert len(digests) == 2


def test_stored_images_that_a_new_policy_refuses_are_told(telling: Telling) -> None:
    telling.notify = [telling.receiver(events=["imageRefused"])]
    telling.run()
    telling.more = policy()
    assert changes(telling.run()) == [("imageRefused", "began", "app:1")]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        pytest.param({}, ["app:1", "other:1.0"], id="all"),
        pytest.param({"repositories": ["oth*"]}, ["other:1.0"], id="of some repositories"),
        pytest.param({"tags": r"\d+\.\d+"}, ["other:1.0"], id="of tags that should not move"),
    ],
)
def test_a_moved_tag_is_told_where_it_is_wanted(
    telling: Telling, keys: dict[str, object], told: list[str]
) -> None:
    telling.upstream.add_image("other", "1.0", (b"other",))
    telling.notify = [telling.receiver(events=["tagMoved"], **keys)]
    assert telling.run() == []
    telling.upstream.add_image("app", "1", (b"moved",))
    telling.upstream.add_image("other", "1.0", (b"moved too",))
    assert changes(telling.run()) == [("tagMoved", "happened", image) for image in told]
    assert telling.run() == []


def test_a_moved_tag_is_told_with_the_digest_that_it_named(telling: Telling) -> None:
    telling.notify = [telling.receiver(events=["tagMoved"])]
    first = telling.upstream.add_image("app", "1", (b"first",))
    telling.run()
    second = telling.upstream.add_image("app", "1", (b"second",))
    [body] = telling.run()
    [told] = body["data"]["changes"]
    assert (told["was"], told["digest"]) == (first.manifest.digest, second.manifest.digest)
    assert told["reason"] == f"from {first.manifest.digest.short} to {second.manifest.digest.short}"


def test_a_missed_objective_is_told_also_while_runs_fail(telling: Telling) -> None:
    telling.run()
    telling.upstream.on("/v2/app/tags/list", FAILS)
    telling.more = {"entry": {"objective": {"maxLag": 0.001}}}
    time.sleep(0.01)
    assert changes(telling.run()) == [("runFailed", "began", "up"), ("objectiveMissed", "began", "up")]
    telling.more = {"entry": {"objective": {"maxLag": "1h"}}}
    assert changes(telling.told()) == [("objectiveMissed", "ended", "up")]


def test_an_overdue_run_is_told(telling: Telling) -> None:
    telling.run()
    telling.more = {"entry": {"pollInterval": 0.1}}
    time.sleep(2)
    assert changes(telling.told()) == [("runOverdue", "began", "up")]


def test_what_does_not_arrive_is_told_later_with_the_same_id(telling: Telling) -> None:
    telling.upstream.on("/v2/app/tags/list", FAILS)
    telling.hook.on("/hook", answers(503))
    tries = telling.run()
    assert len({body["id"] for body in tries}) == 1
    assert len(tries) == 3
    where = f"notify ops: http://{telling.hook.host}"
    assert telling.say == [f"{where} answered with status 503; the message is kept for the next try"]
    telling.upstream.on("/v2/app/tags/list", well_behaved)
    telling.hook.on("/hook", answers(204))
    arrived = telling.run()
    assert arrived[0]["id"] == tries[0]["id"]
    assert changes(arrived) == [("runFailed", "began", "up"), ("runFailed", "ended", "up")]


def test_a_message_is_written_down_before_it_is_sent(telling: Telling) -> None:
    """A process that dies while it sends leaves it to the next one."""
    telling.upstream.on("/v2/app/tags/list", FAILS)
    telling.run_only()
    composed = telling.notifier().compose()
    assert telling.notifier().compose() == composed
    assert [body["id"] for body in telling.told()] == [composed["ops"].id]
    assert telling.told() == []


def test_one_process_tells_at_a_time(telling: Telling) -> None:
    telling.upstream.on("/v2/app/tags/list", FAILS)
    telling.run_only()
    with telling.notifier().store.claim(ROLE):
        assert telling.told() == []
    assert changes(telling.told()) == [("runFailed", "began", "up")]


def test_a_dead_receiver_does_not_keep_another_one_from_hearing(telling: Telling) -> None:
    dead = {"name": "dead", "url": "http://127.0.0.1:1/x", "timeout": "1s"}
    telling.notify = [dead, telling.receiver()]
    telling.upstream.on("/v2/app/tags/list", FAILS)
    assert changes(telling.run()) == [("runFailed", "began", "up")]
    assert [line.partition(": http")[0] for line in telling.say] == ["notify dead"]
    assert set(telling.pending()) == {"dead"}


def test_an_entry_that_left_the_profile_is_forgotten_without_a_word(telling: Telling) -> None:
    telling.upstream.on("/v2/app/tags/list", FAILS)
    telling.run()
    telling.more = {"entry": {"name": "renamed"}}
    assert telling.told() == []
