"""What a receiver was told, and what it is to be told next. Pure, but for the file in the store.

`notifications/<receiver>.json`: a message is written there before it is sent, and taken out once the receiver
has it. So one that was under way when a process died is sent again, with the same id.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote
from uuid import uuid4

from flows.reporting.notify.conditions import Condition
from profiles.model.notify import NotifyEvent
from registry_server.oci.reference import ImageName
from registry_server.store import records
from registry_server.store.errors import translated
from registry_server.store.objects.objects import content_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flows.reporting.notify.conditions import Look
    from profiles.model.notify import NotifyReceiver
    from registry_server.store.store import Store

MOST_CHANGES: Final = 100
"""In one message; of more it has the number."""


class Phase(StrEnum):
    """A condition begins and ends; a tag that moved is an event of one moment."""

    BEGAN = "began"
    ENDED = "ended"
    HAPPENED = "happened"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a message. `since`: when the condition was first seen. Times in Unix seconds."""

    phase: Phase
    condition: Condition
    since: float
    time: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        condition = Condition.from_json(found["condition"])
        return cls(Phase(found["phase"]), condition, float(found["since"]), float(found["time"]))


@dataclass(frozen=True, slots=True)
class Message:
    """Several changes at once. `id` stays the same when it is sent again; `more` changes are left out."""

    id: str
    time: float
    changes: tuple[Change, ...]
    more: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        changes = tuple(map(Change.from_json, found["changes"]))
        return cls(str(found["id"]), float(found["time"]), changes, int(found["more"]))


@dataclass(frozen=True, slots=True)
class Told:
    """`holding`: the conditions that began and were told, by key, with the time. `seen`: by registry entry or
    shard, the name of the last report whose moved tags were told. `pending` has not arrived yet."""

    holding: Mapping[str, tuple[Condition, float]] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)
    pending: Message | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "holding": [[condition.to_json(), since] for condition, since in self.holding.values()],
            "seen": dict(self.seen),
            "pending": self.pending.to_json() if self.pending else None,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        held = [(Condition.from_json(condition), float(since)) for condition, since in found["holding"]]
        return cls(
            {condition.key: (condition, since) for condition, since in held},
            {str(part): str(name) for part, name in found["seen"].items()},
            Message.from_json(found["pending"]) if found["pending"] else None,
        )


def compare(told: Told, look: Look, is_wanted: Callable[[Condition], bool], now: float) -> Told:
    """`told` with a message for what has changed since; the same where nothing has, or one is pending.

    `is_wanted` (`wants`): whether the receiver is to be told of it. What it is not to be told of any more,
    because the profile has changed, is forgotten without a word.
    """
    if told.pending is not None:
        return told
    wanted = {key: each for key, each in look.conditions.items() if is_wanted(each)}
    held = {key: each for key, each in told.holding.items() if is_wanted(each[0])}
    began = {key: each for key, each in wanted.items() if key not in held or _differ(held[key][0], each)}
    ended = {key: each for key, each in held.items() if key not in wanted and key not in look.open_keys}
    changes = [
        *(Change(Phase.BEGAN, each, now, now) for each in began.values()),
        *(Change(Phase.ENDED, each, since, now) for each, since in ended.values()),
        *(Change(Phase.HAPPENED, each, now, now) for each in look.moved if is_wanted(each)),
    ]
    kept = {key: each for key, each in held.items() if key not in ended and key not in began}
    holding = {**kept, **{key: (each, now) for key, each in began.items()}}
    return Told(holding, look.seen or told.seen, _message(changes, now) if changes else None)


def _message(changes: list[Change], now: float) -> Message:
    return Message(str(uuid4()), now, tuple(changes[:MOST_CHANGES]), len(changes[MOST_CHANGES:]))


def _differ(before: Condition, now: Condition) -> bool:
    """Whether another digest is refused than the one that was told."""
    return bool(before.digest and now.digest and before.digest != now.digest)


def wants(receiver: NotifyReceiver, condition: Condition, entries: tuple[str, ...]) -> bool:
    """Whether the receiver is to be told of this at all."""
    if condition.event not in receiver.events or condition.registry not in (receiver.registries or entries):
        return False
    if not condition.image:
        return True
    name = ImageName.parse(condition.image)
    patterns = receiver.repositories
    if patterns and not any(each.matches(str(name.repository)) for each in patterns):
        return False
    by_tag = receiver.tags if condition.event is NotifyEvent.TAG_MOVED else None
    return by_tag is None or by_tag.matches(str(name.reference))


@translated
def load_told(store: Store, receiver: str) -> Told | None:
    """None: it was never told anything. Raises `StoreError`."""
    return records.decoded(content_of(store.roots[0].objects, _key(receiver)), Told.from_json)


@translated
def save_told(store: Store, receiver: str, told: Told) -> None:
    """Raises `StoreError`."""
    store.roots[0].objects.put(_key(receiver), records.encode({"version": 1, **told.to_json()}))


def _key(receiver: str) -> str:
    return f"notifications/{quote(receiver, safe='')}.json"
