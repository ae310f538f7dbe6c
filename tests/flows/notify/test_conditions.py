"""What reports say of refused images, run after run; and what a receiver is told of it. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from flows.reporting.notify.conditions import Condition, Look, moved_in, refused_in_reports
from flows.reporting.notify.told import MOST_CHANGES, Message, Phase, Told, compare
from profiles.model.notify import NotifyEvent
from profiles.values.shard import Shard

DIGEST = f"sha256:{'a' * 64}"
_OWNER = next(str(shard) for shard in Shard.all_of(2) if shard is not None and shard.owns("app"))
_OTHER = next(str(shard) for shard in Shard.all_of(2) if shard is not None and not shard.owns("app"))


def image(name: str, outcome: str, *, step: str = "verify_signature", verdict: str = "") -> dict[str, Any]:
    found = {"image": name, "upstream": name, "digest": DIGEST, "outcome": outcome, "step": step}
    return {**found, "verdict": verdict, "reason": "new"}


REFUSED = image("app:1", "failed", verdict="refused: it has no signature")
NOT_ASKED = image("app:1", "failed")
COPIED = image("app:1", "copied", step="publish_image", verdict="verified: ours")


def run(*images: dict[str, Any], registry: str = "hub", **more: Any) -> dict[str, Any]:
    fields = {"only": [], "problems": [], "state": "failed", "shard": "", "runId": "1"}
    return {"registry": registry, **fields, "images": list(images), **more}


@pytest.mark.parametrize(
    ("reports", "refused"),
    [
        pytest.param([run(REFUSED)], True, id="refused"),
        pytest.param([run(NOT_ASKED)], False, id="an upstream that gave no signatures is no verdict"),
        pytest.param([run(REFUSED), run(REFUSED)], True, id="refused again"),
        pytest.param([run(REFUSED), run(COPIED)], False, id="admitted"),
        pytest.param([run(REFUSED), run(NOT_ASKED)], True, id="then the upstream could not be asked"),
        pytest.param([run(REFUSED), run(state="complete")], False, id="not wanted any more"),
        pytest.param([run(REFUSED), run(state="stopped")], True, id="a run that was stopped says nothing"),
        pytest.param(
            [run(REFUSED), run(problems=["500"])], True, id="a run that could not look says nothing"
        ),
        pytest.param([run(REFUSED), run(only=["app:2"])], True, id="a run for another image"),
        pytest.param([run(REFUSED), run(COPIED, only=["app:1"])], False, id="a run for this image"),
        pytest.param([run(REFUSED), run(registry="quay")], True, id="a run of another entry"),
        pytest.param([run(REFUSED, shard=_OWNER), run(shard=_OTHER)], True, id="a run of another shard"),
        pytest.param([run(REFUSED, shard=_OWNER), run(shard=_OWNER)], False, id="a run of the same shard"),
    ],
)
def test_an_image_is_refused_until_a_run_says_otherwise(
    reports: list[dict[str, Any]],
    refused: bool,  # noqa: FBT001 - a table
) -> None:
    assert [each.image for each in refused_in_reports(reports).values()] == ["app:1"] * refused


def test_only_a_tag_that_was_here_has_moved() -> None:
    moved = {**COPIED, "was": f"sha256:{'1' * 64}", "stored": f"sha256:{'2' * 64}"}
    [found] = moved_in([run(COPIED), run(moved)])
    assert (found.image, found.was) == ("app:1", moved["was"])
    assert found.text == "from sha256:111111111111 to sha256:222222222222"


def condition(name: str = "hub", digest: str = "") -> Condition:
    event = NotifyEvent.IMAGE_REFUSED if digest else NotifyEvent.RUN_FAILED
    return Condition(event, "hub", "why", name if digest else "", digest)


def look(*conditions: Condition, open_keys: frozenset[str] = frozenset()) -> Look:
    return Look({each.key: each for each in conditions}, open_keys)


def step(told: Told, found: Look, now: float = 60.0) -> tuple[Told, list[tuple[Phase, str]]]:
    """What was told then, as if the message had arrived."""
    after = compare(told, found, lambda _: True, now)
    lines = [(each.phase, each.condition.digest) for each in after.pending.changes] if after.pending else []
    return Told(after.holding, after.seen), lines


FAILED = condition()


@pytest.mark.parametrize(
    ("looks", "lines"),
    [
        pytest.param([look(FAILED), look(FAILED)], [[(Phase.BEGAN, "")], []], id="begins once"),
        pytest.param([look(FAILED), look()], [[(Phase.BEGAN, "")], [(Phase.ENDED, "")]], id="and ends once"),
        pytest.param(
            [look(FAILED), look(open_keys=frozenset([FAILED.key])), look()],
            [[(Phase.BEGAN, "")], [], [(Phase.ENDED, "")]],
            id="what cannot be told stays as it is",
        ),
        pytest.param([look(open_keys=frozenset([FAILED.key]))], [[]], id="and does not begin"),
        pytest.param(
            [look(condition("app:1", "a")), look(condition("app:1", "b")), look(condition("app:1", "b"))],
            [[(Phase.BEGAN, "a")], [(Phase.BEGAN, "b")], []],
            id="another digest begins anew",
        ),
    ],
)
def test_each_change_is_told_once(looks: list[Look], lines: list[list[tuple[Phase, str]]]) -> None:
    told, found = Told(), []
    for each in looks:
        told, said = step(told, each)
        found.append(said)
    assert found == lines


def test_the_end_says_when_it_began() -> None:
    told, _ = step(Told(), look(FAILED), now=60.0)
    after = compare(told, look(), lambda _: True, 7200.0)
    assert after.pending is not None
    assert [(each.since, each.time) for each in after.pending.changes] == [(60.0, 7200.0)]


def test_a_pending_message_is_not_changed() -> None:
    first = compare(Told(), look(FAILED), lambda _: True, 60.0)
    assert compare(first, look(), lambda _: True, 70.0) is first


def test_of_very_many_changes_the_rest_is_a_number() -> None:
    many = [condition(f"app:{number}", "a") for number in range(MOST_CHANGES + 5)]
    message: Message | None = compare(Told(), look(*many), lambda _: True, 0.0).pending
    assert message is not None
    assert (len(message.changes), message.more) == (MOST_CHANGES, 5)


def test_what_was_told_survives_its_file() -> None:
    told = compare(Told(), look(FAILED, condition("app:1", DIGEST)), lambda _: True, 60.0)
    assert Told.from_json(told.to_json()) == told
