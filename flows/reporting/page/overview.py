"""What the first page says: is the mirror complete, fresh and trusted, and if not, why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.reporting.entry_status import requests_of
from flows.reporting.page.snapshot import sees_texts
from registry_server.counted import counted
from registry_server.human_units import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flows.reporting.entry_status import EntryState, EntryStatus
    from flows.reporting.page.snapshot import Snapshot, Summary
    from flows.reporting.tag_status import TagStatus
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry
    from registry_server.store.maintenance.stats import StoreStats


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the overview. `tone` is good, bad, warn or plain; `href` leads to what it counts."""

    number: str
    label: str
    tone: str = "plain"
    href: str = ""


@dataclass(frozen=True, slots=True)
class EntryRow:
    """A registry entry. Times in Unix seconds.

    `known` is of the image that has gone longest without being what the upstream has, None for never.
    """

    name: str
    hosts: tuple[str, ...]
    state: EntryState
    message: str
    tone: str
    ended: float | None
    due: float | None
    timing: str
    counts: Mapping[str, int]
    requests: int
    budget: str
    run_id: str
    known: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """`complete`: everything that the profile wants is in place, as far as the visitor may see."""

    complete: bool
    headline: str
    reasons: Sequence[str]
    tiles: Sequence[Tile]
    entries: Sequence[EntryRow]
    problems: Sequence[TagStatus]


def overview(snapshot: Snapshot, may_see: Callable[[str], bool], shown: int) -> Overview:
    """`shown`: how many problems to list."""
    summaries = [each for name, each in snapshot.repositories.items() if may_see(name)]
    sees_all = len(summaries) == len(snapshot.repositories)
    counts: Counter[str] = Counter()
    for each in summaries:
        counts.update(each.counts)
    rows = entry_rows(snapshot, summaries, texts=sees_texts(snapshot, may_see))
    reasons = [*_entry_reasons(rows), *_tag_reasons(counts)]
    return Overview(
        complete=not reasons,
        headline=_headline(_images_of_entries(summaries), rows, complete=not reasons),
        reasons=reasons,
        # Sizes are those of the whole store, so they are for visitors who may see all of it.
        tiles=_tiles(counts, len(summaries), snapshot.stats if sees_all else None),
        entries=rows,
        problems=[each for each in snapshot.problems if may_see(each.repository)][:shown],
    )


def entry_rows(snapshot: Snapshot, summaries: Iterable[Summary], *, texts: bool) -> list[EntryRow]:
    """A row for each registry entry of the profile, with what is visible of it; see `sees_texts`."""
    visible: dict[str, Counter[str]] = {}
    for each in summaries:
        for registry in each.registries:
            # A repository that several entries fill counts for each of them.
            visible.setdefault(registry, Counter()).update(each.counts)
    profile = snapshot.loaded.profile
    entries = {entry.name: entry for entry in profile.sync.registries}
    told = [each if texts else replace(each, message=str(each.state)) for each in snapshot.entries]
    return [_row(profile, entries[each.registry], each, visible, snapshot) for each in told]


def _row(
    profile: Profile,
    entry: RegistryEntry,
    status: EntryStatus,
    visible: Mapping[str, Counter[str]],
    snapshot: Snapshot,
) -> EntryRow:
    report = status.report
    return EntryRow(
        name=entry.name,
        hosts=tuple(str(each) for each in entry.urls),
        state=status.state,
        message=status.message,
        tone="good" if status.in_place else "bad",
        ended=status.ended,
        due=_due(entry, status, snapshot.taken) if profile.sync.enable else None,
        timing=str(entry.timing or ""),
        counts=visible.get(entry.name, Counter()),
        requests=sum(requests_of(report).values()),
        budget=report.get("budget", ""),
        run_id=report.get("runId", ""),
        known=snapshot.known.get(entry.name) or None,
    )


def _due(entry: RegistryEntry, status: EntryStatus, now: float) -> float | None:
    if entry.timing is None:
        return None
    moment = datetime.fromtimestamp(now, UTC)
    anchor = moment if status.ended is None else datetime.fromtimestamp(status.ended, UTC)
    return entry.timing.next_due(anchor, moment).timestamp()


def _entry_reasons(rows: Iterable[EntryRow]) -> list[str]:
    return [f"{row.name}: {row.message}" for row in rows if row.tone == "bad"]


def _tag_reasons(counts: Mapping[str, int]) -> list[str]:
    problems = counts.get("problems", 0)
    return [f"{counted(problems, 'image is', 'images are')} not in place"] if problems else []


def _images_of_entries(summaries: Iterable[Summary]) -> int:
    """Not of what was pushed or promoted."""
    return sum(each.counts["images"] for each in summaries if any(each.registries))


def _headline(number: int, rows: Sequence[EntryRow], *, complete: bool) -> str:
    images = counted(number, "image")
    entries = counted(len(rows), "registry entry", "registry entries")
    if complete:
        return f"Complete: {images} of {entries}, which is all that the profile wants"
    return f"Not complete: {images} of {entries}, and something is missing"


def _tiles(counts: Mapping[str, int], repositories: int, stats: StoreStats | None) -> list[Tile]:
    def tile(key: str, label: str, tone: str, href: str = "") -> Tile:
        number = counts.get(key, 0)
        return Tile(f"{number:,}", label, tone if number else "plain", href if number else "")

    stored, places = counts.get("images", 0), repositories
    found = [
        tile("images", "image stored" if stored == 1 else "images stored", "good", "/repositories"),
        Tile(f"{places:,}", "repository" if places == 1 else "repositories", "plain", "/repositories"),
        tile("problems", "not in place", "bad", "/problems"),
        tile("held", "held back by minAge", "warn"),
        tile("gone", "gone upstream, kept here", "warn"),
        tile("verified", "with a verified signature", "good"),
        tile("unverified", "without a verified signature", "plain"),
    ]
    if stats is None:
        return found
    saved = Tile(human_bytes(stats.saved), "saved by sharing layers")
    return [*found, Tile(human_bytes(stats.bytes), "on disk"), saved]
