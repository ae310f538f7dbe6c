"""The body of a message in the form that its receiver takes. Pure.

Names and reasons come from upstream registries. None of them may become a mention, a link or markup.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from flows.reporting.notify.told import Phase
from profiles.model.notify import NotifyEvent, NotifyFormat
from registry_server.human_units import human_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flows.reporting.notify.conditions import Condition
    from flows.reporting.notify.told import Change, Message

TYPE: Final = "mirrorflow.changes.v1"
_LINES: Final = 20  # of a chat message
_LONGEST: Final = 500  # characters of a reason in a chat message
_WORDS: Final = {
    NotifyEvent.RUN_FAILED: ("failed", "works again"),
    NotifyEvent.RUN_OVERDUE: ("is overdue", "is on time again"),
    NotifyEvent.IMAGE_REFUSED: ("is refused", "is not refused any more"),
    NotifyEvent.OBJECTIVE_MISSED: ("misses its objective", "meets its objective again"),
    NotifyEvent.TAG_MOVED: ("moved", "moved"),
}
# An address with @ would call people; that of a digest stays as it is.
_MENTION: Final = re.compile(r"@(?!sha(?:256|512):)")


def body_of(form: NotifyFormat, message: Message, source: str) -> tuple[str, bytes]:
    """The media type and the bytes. `source` names the mirror."""
    media_type = "application/cloudevents+json" if form is NotifyFormat.CLOUDEVENTS else "application/json"
    document = _FORMS[form](message, source)
    return f"{media_type}; charset=utf-8", json.dumps(document).encode()


def _cloudevent(message: Message, source: str) -> dict[str, Any]:
    """CloudEvents 1.0, JSON format, structured content mode."""
    changes = [_change(each) for each in message.changes]
    subject = {"subject": _subject(message.changes[0].condition)} if len(changes) == 1 else {}
    return {
        "specversion": "1.0",
        "id": message.id,
        "source": source,
        "type": TYPE,
        **subject,
        "time": _iso(message.time),
        "datacontenttype": "application/json",
        "data": {"version": 1, "text": _headline(message), "changes": changes, "more": message.more},
    }


def _change(change: Change) -> dict[str, Any]:
    condition = change.condition
    return {
        "event": condition.event,
        "phase": change.phase,
        "registry": condition.registry,
        "image": condition.image,
        "digest": condition.digest,
        "was": condition.was,
        "run": condition.run,
        "reason": condition.text,
        "since": _iso(change.since),
        "time": _iso(change.time),
    }


def _slack(message: Message, _source: str) -> dict[str, Any]:
    """https://docs.slack.dev/messaging/formatting-message-text: these three are all that is to be escaped."""
    text = "\n".join(_chat_lines(message))
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, escaped)
    return {"text": text, "mrkdwn": False}


def _teams(message: Message, _source: str) -> dict[str, Any]:
    """A RichTextBlock, because a TextBlock reads Markdown, and so links, in the words of others."""
    runs = [
        {
            "type": "RichTextBlock",
            "inlines": [{"type": "TextRun", "text": line, **({"weight": "Bolder"} if first else {})}],
        }
        for first, line in ((number == 0, line) for number, line in enumerate(_chat_lines(message)))
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": runs,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def _alertmanager(message: Message, source: str) -> dict[str, Any]:
    """Version 4 of what Alertmanager sends to webhooks: an alert for each change, a moved tag as resolved."""
    alerts = [_alert(each, source) for each in message.changes]
    firing = any(each["status"] == "firing" for each in alerts)
    return {
        "version": "4",
        "groupKey": f'{{}}:{{mirror="{source}"}}',
        "truncatedAlerts": message.more,
        "status": "firing" if firing else "resolved",
        "receiver": "mirrorflow",
        "groupLabels": {"mirror": source},
        "commonLabels": {"mirror": source},
        "commonAnnotations": {},
        "externalURL": "",
        "alerts": alerts,
    }


def _alert(change: Change, source: str) -> dict[str, Any]:
    condition, open_still = change.condition, change.phase is Phase.BEGAN
    name = condition.event[:1].upper() + condition.event[1:]
    labels = {"alertname": f"Mirror{name}", "mirror": source, "registry": condition.registry}
    labels |= {"image": condition.image} if condition.image else {}
    return {
        "status": "firing" if open_still else "resolved",
        "labels": labels,
        "annotations": {"summary": _sentence(change), "description": condition.text},
        "startsAt": _iso(change.since),
        "endsAt": "0001-01-01T00:00:00Z" if open_still else _iso(change.time),
        "generatorURL": "",
        "fingerprint": f"{hash_of(condition.key, source):016x}",
    }


def hash_of(key: str, source: str) -> int:
    """The same number for the same condition of the same mirror: FNV-1a, as Alertmanager makes its own."""
    number = 0xCBF29CE484222325
    for byte in f"{source}\n{key}".encode():
        number = (number ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return number


def _chat_lines(message: Message) -> list[str]:
    lines = [f"mirrorflow: {_headline(message)}"] if len(message.changes) + message.more > 1 else []
    lines += [f"{_sentence(each)}{_reason(each)}" for each in message.changes[:_LINES]]
    left = len(message.changes[_LINES:]) + message.more
    lines += [f"and {left:,} more"] if left else []
    return [_MENTION.sub("@\u200b", _one_line(line)) for line in lines]


def _one_line(text: str) -> str:
    """Without what is not seen: line breaks, control characters, marks that turn the direction of text."""
    seen = (character if character.isprintable() else " " for character in text)
    return " ".join("".join(seen).split())


def _headline(message: Message) -> str:
    if len(message.changes) + message.more == 1:
        return _sentence(message.changes[0])
    return f"{len(message.changes) + message.more:,} changes"


def _sentence(change: Change) -> str:
    """E.g. `docker-hub failed`, `library/nginx:1.25 is not refused any more, after 2 h`."""
    began, ended = _WORDS[change.condition.event]
    if change.phase is not Phase.ENDED:
        return f"{_subject(change.condition)} {began}"
    return f"{_subject(change.condition)} {ended}, after {human_seconds(change.time - change.since)}"


def _subject(condition: Condition) -> str:
    return condition.image or condition.registry


def _reason(change: Change) -> str:
    text = change.condition.text
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return f" (it was: {shown})" if change.phase is Phase.ENDED else f": {shown}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


_FORMS: Final[Mapping[NotifyFormat, Callable[[Message, str], dict[str, Any]]]] = {
    NotifyFormat.CLOUDEVENTS: _cloudevent,
    NotifyFormat.SLACK: _slack,
    NotifyFormat.TEAMS: _teams,
    NotifyFormat.ALERTMANAGER: _alertmanager,
}
