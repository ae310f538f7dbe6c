"""What receivers of notifications are told of: conditions, which begin and end, and tags that moved. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from flows.reporting.entry_status import EntryState
from profiles.model.notify import NotifyEvent
from profiles.values.shard import Shard
from registry_server.human_units import human_seconds
from tasks.run.only import repository_of
from tasks.run.values import Step
from tasks.stored.images import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flows.reporting.entry_status import EntryStatus
    from profiles.model.sync import RegistryEntry
    from tasks.stored.images import StoredImage

_SHORT: Final = len("sha256:") + 12


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is not as it should be. `image` is "" where a whole registry entry is meant.

    `run` is the id of the run that told it, "" where none did. `digest` is the upstream's: where another
    one is refused, that is told too. `was` is what a tag that moved had named here.
    """

    event: NotifyEvent
    registry: str
    text: str
    image: str = ""
    digest: str = ""
    run: str = ""
    was: str = ""

    @property
    def key(self) -> str:
        """The same as long as it is the same condition."""
        return f"{self.event}/{self.image or self.registry}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        return cls(NotifyEvent(found["event"]), *(str(found.get(name, "")) for name in cls.__slots__[1:]))


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the store found. `open_keys`: it cannot tell whether these hold; they stay as they are.

    `moved`: the tags that moved in the reports up to those that `seen` names, by registry entry or shard.
    """

    conditions: Mapping[str, Condition]
    open_keys: frozenset[str] = frozenset()
    moved: tuple[Condition, ...] = ()
    seen: Mapping[str, str] = field(default_factory=dict)


def of_entries(
    statuses: Iterable[EntryStatus],
    entries: Mapping[str, RegistryEntry],
    known: Mapping[str, float],
    now: float,
) -> Iterator[Condition]:
    """Failed and overdue runs, and missed objectives. `known`: see `oldest_known`; `now` in Unix seconds."""
    events = {EntryState.FAILED: NotifyEvent.RUN_FAILED, EntryState.OVERDUE: NotifyEvent.RUN_OVERDUE}
    for status in statuses:
        if (event := events.get(status.state)) is not None:
            yield Condition(event, status.registry, status.message, run=str(status.report.get("runId") or ""))
        if late := _late(entries[status.registry], known.get(status.registry), now):
            yield Condition(NotifyEvent.OBJECTIVE_MISSED, status.registry, late)


def stopped_keys(statuses: Iterable[EntryStatus]) -> Iterator[str]:
    """A run that was stopped says neither that the entry works again nor that it does not."""
    for status in statuses:
        if status.state is EntryState.STOPPED:
            yield Condition(NotifyEvent.RUN_FAILED, status.registry, "").key
            yield Condition(NotifyEvent.RUN_OVERDUE, status.registry, "").key


def _late(entry: RegistryEntry, known: float | None, now: float) -> str:
    limit = entry.objective.max_lag
    if limit is None or known is None or now - known <= limit:
        return ""
    age = f"{human_seconds(now - known)} ago" if known else "never"
    return f"an image was last known to be current {age}, and maxLag is {human_seconds(limit)}"


def refused_in_reports(reports: Iterable[Mapping[str, Any]]) -> dict[str, Condition]:
    """The images that the last run which looked at them refused, by key. `reports` are oldest first."""
    found: dict[str, tuple[Condition, str]] = {}  # with the upstream repository
    for report in reports:
        named = {image["image"]: image for image in report["images"]}
        for key, (condition, upstream) in list(found.items()):
            if condition.registry == report["registry"] and _has_ended(condition, upstream, report, named):
                del found[key]
        for image in filter(_is_refused, named.values()):
            condition = _of_image(NotifyEvent.IMAGE_REFUSED, report, image)
            found[condition.key] = condition, repository_of(image["upstream"])
    return {key: condition for key, (condition, _) in found.items()}


def _has_ended(
    condition: Condition, upstream: str, report: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Whether a run let the image in, or looked and did not find it any more."""
    image = named.get(condition.image)
    if image is not None:
        return image["outcome"] in ("copied", "left out")
    shard = str(report.get("shard") or "")
    looked = not (report["only"] or report["problems"] or report["state"] == "stopped")
    return looked and (not shard or Shard.parse(shard).owns(upstream))


def _is_refused(image: Mapping[str, Any]) -> bool:
    """By a verdict: an upstream that could not be asked for signatures gives none."""
    at_verdict = image["step"] == Step.VERIFIED and image["outcome"] == "failed"
    return at_verdict and bool(image["verdict"])


def _of_image(event: NotifyEvent, report: Mapping[str, Any], image: Mapping[str, Any]) -> Condition:
    text = str(image["verdict"] if event is NotifyEvent.IMAGE_REFUSED else image["reason"])
    return Condition(event, report["registry"], text, image["image"], image["digest"], report["runId"])


def of_stored(short: Iterable[StoredImage]) -> Iterator[Condition]:
    """Stored images that a policy refuses today, hidden or not (`StoredImages.shortfalls`)."""
    for image in short:
        if image.standing in (Standing.HIDDEN, Standing.KEPT):
            yield Condition(
                NotifyEvent.IMAGE_REFUSED,
                image.entry.name,
                image.problem,
                image.name,
                str(image.upstream_digest),
            )


def moved_in(reports: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """The tags that runs moved, a condition each."""
    return tuple(
        replace(
            _of_image(NotifyEvent.TAG_MOVED, report, image),
            text=f"from {image['was'][:_SHORT]} to {image['stored'][:_SHORT]}",
            was=image["was"],
        )
        for report in reports
        for image in report["images"]
        if image["outcome"] == "copied" and image.get("was")
    )
