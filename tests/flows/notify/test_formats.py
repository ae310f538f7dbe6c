"""What each form makes of a message, also of one whose words come from somebody hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flows.reporting.notify.conditions import Condition
from flows.reporting.notify.formats import body_of
from flows.reporting.notify.notifier import trial_message
from flows.reporting.notify.told import MOST_CHANGES, Change, Message, Phase
from profiles.model.notify import NotifyEvent, NotifyFormat

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/notification.schema.json").read_text())
DIGEST = f"sha256:{'a' * 64}"
HOSTILE = "<!channel> @channel [free](https://evil.example) **b** &amp;\n```x```\u202e"
MOVED = Condition(
    NotifyEvent.TAG_MOVED, "hub", "moved to a new digest", "library/nginx:1.25", DIGEST, "run-1"
)
REFUSED = Condition(NotifyEvent.IMAGE_REFUSED, "hub", HOSTILE, f"app@{DIGEST}", DIGEST)
FAILED = Condition(NotifyEvent.RUN_FAILED, "hub", "3 of 4 images, 1 failed")
ALL = tuple(
    Change(phase, Condition(event, "hub", "why", "app:1", DIGEST), 0.0, 60.0)
    for event in NotifyEvent
    for phase in ([Phase.HAPPENED] if event is NotifyEvent.TAG_MOVED else [Phase.BEGAN, Phase.ENDED])
)


def message(*changes: Change, more: int = 0) -> Message:
    return Message("the-id", 7200.0, changes, more)


def made(form: NotifyFormat, *changes: Change, more: int = 0) -> Any:
    media_type, body = body_of(form, message(*changes, more=more), "urn:uuid:1")
    assert media_type.endswith("json; charset=utf-8")
    return json.loads(body)


def began(condition: Condition) -> Change:
    return Change(Phase.BEGAN, condition, 0.0, 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(ALL, id="every event"),
        pytest.param((began(REFUSED),), id="one, of a hostile upstream"),
        pytest.param(trial_message(0.0).changes, id="the test message"),
        pytest.param((began(FAILED),) * MOST_CHANGES, id="as many as there may be"),
    ],
)
def test_a_cloudevent_is_as_its_schema_says(changes: tuple[Change, ...]) -> None:
    document = made(NotifyFormat.CLOUDEVENTS, *changes, more=3)
    jsonschema.validate(document, SCHEMA)
    assert [each["event"] for each in document["data"]["changes"]] == [
        each.condition.event for each in changes
    ]


def test_the_schema_refuses_what_is_no_message() -> None:
    document = made(NotifyFormat.CLOUDEVENTS, began(FAILED))
    document["data"]["changes"][0]["phase"] = "ended?"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_one_change_is_the_subject_and_several_have_none() -> None:
    assert made(NotifyFormat.CLOUDEVENTS, began(MOVED))["subject"] == "library/nginx:1.25"
    assert "subject" not in made(NotifyFormat.CLOUDEVENTS, began(MOVED), began(FAILED))


def test_slack_gets_lines_that_call_nobody() -> None:
    document = made(NotifyFormat.SLACK, began(REFUSED), Change(Phase.ENDED, FAILED, 0.0, 7200.0), more=5)
    assert document["mrkdwn"] is False
    reason = "&lt;!channel&gt; @\u200bchannel [free](https://evil.example) **b** &amp;amp; ```x```"
    assert document["text"].splitlines() == [
        "mirrorflow: 7 changes",
        f"app@{DIGEST} is refused: {reason}",
        "hub works again, after 2 h (it was: 3 of 4 images, 1 failed)",
        "and 5 more",
    ]


def test_a_long_message_is_cut_for_a_chat() -> None:
    document = made(NotifyFormat.SLACK, *[began(FAILED)] * 30, more=5)
    assert document["text"].splitlines()[-1] == "and 15 more"


def test_a_long_reason_is_cut_for_a_chat() -> None:
    long = Condition(NotifyEvent.RUN_FAILED, "hub", "x" * 10_000)
    assert len(made(NotifyFormat.SLACK, began(long))["text"]) < 600


def test_teams_gets_a_card_of_plain_runs() -> None:
    document = made(NotifyFormat.TEAMS, began(REFUSED), began(FAILED))
    (attachment,) = document["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    blocks = attachment["content"]["body"]
    assert {block["type"] for block in blocks} == {"RichTextBlock"}, "a TextBlock would read Markdown"
    texts = [run["text"] for block in blocks for run in block["inlines"]]
    assert texts[0] == "mirrorflow: 2 changes"
    assert "[free](https://evil.example)" in texts[1]


def test_receivers_of_alertmanager_get_what_fires_and_what_is_resolved() -> None:
    ended = Change(Phase.ENDED, FAILED, 60.0, 7200.0)
    document = made(
        NotifyFormat.ALERTMANAGER, began(REFUSED), ended, Change(Phase.HAPPENED, MOVED, 60.0, 60.0)
    )
    assert (document["version"], document["status"]) == ("4", "firing")
    firing, resolved, moved = document["alerts"]
    assert firing["labels"] == {
        "alertname": "MirrorImageRefused",
        "mirror": "urn:uuid:1",
        "registry": "hub",
        "image": f"app@{DIGEST}",
    }
    assert [each["status"] for each in document["alerts"]] == ["firing", "resolved", "resolved"]
    assert firing["endsAt"] == "0001-01-01T00:00:00Z"
    assert (resolved["startsAt"], resolved["endsAt"]) == ("1970-01-01T00:01:00Z", "1970-01-01T02:00:00Z")
    assert moved["labels"]["alertname"] == "MirrorTagMoved"


def test_an_alert_keeps_its_fingerprint_from_its_begin_to_its_end() -> None:
    (first,) = made(NotifyFormat.ALERTMANAGER, began(FAILED))["alerts"]
    (last,) = made(NotifyFormat.ALERTMANAGER, Change(Phase.ENDED, FAILED, 0.0, 9.0))["alerts"]
    (other,) = made(NotifyFormat.ALERTMANAGER, began(REFUSED))["alerts"]
    assert first["fingerprint"] == last["fingerprint"] != other["fingerprint"]
    assert first["labels"] == last["labels"]
