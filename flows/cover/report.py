"""From what is in use to what is covered: the whole answer, and how a terminal shows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from flows.cover.coverage import CoverageCheck, CoverState
from flows.cover.suggestions import suggest
from flows.cover.used_images import shown, used_images
from flows.entries import open_store_if_present, shards_of
from flows.reporting.entry_status import entry_statuses
from flows.reporting.last_runs import last_runs
from profiles.additions import rendered
from registry_server.counted import counted
from registry_server.oci.errors import MirrorflowError
from tasks.stored.images import StoredImages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from flows.cover.coverage import Coverage
    from flows.cover.places import ClientView
    from flows.cover.used_images import Use
    from profiles.additions import Addition
    from registry_server.oci.descriptor import Platform

_STYLES: Final = {CoverState.COVERED: "green", CoverState.STALE: "yellow"}


class NothingUsed(MirrorflowError):
    """No object, chart or file names an image: that says nothing about coverage."""


@dataclass(frozen=True, slots=True)
class CoverReport:
    """`not_read`: what could not be looked at; with any of it nothing is known to be covered."""

    coverages: Sequence[Coverage]
    suggestions: Sequence[Addition]
    platforms: Sequence[Platform]
    client: str
    not_read: Sequence[str] = ()

    @property
    def is_covered(self) -> bool:
        return all(each.is_covered for each in self.coverages)

    @property
    def exit_code(self) -> int:
        if not self.is_covered:
            return 2
        return 1 if self.not_read else 0

    def to_json(self) -> dict[str, Any]:
        counts = Counter(str(each.state) for each in self.coverages)
        return {
            "covered": self.is_covered and not self.not_read,
            "client": self.client,
            "platforms": [str(each) for each in self.platforms],
            "images": [each.to_json() for each in self.coverages],
            "states": dict(counts),
            "suggestions": [
                {
                    "registry": each.entry,
                    "new": bool(each.keys),
                    "content": [*each.rules],
                    "yaml": rendered(each),
                }
                for each in self.suggestions
            ],
            "notRead": list(self.not_read),
        }


def cover(
    uses: Iterable[Use],
    view: ClientView,
    platforms: Sequence[Platform],
    now: float,
    not_read: Sequence[str] = (),
) -> CoverReport:
    """Judge every image that is used; `now` in Unix seconds. Raises `NothingUsed`, `StoreError`."""
    images = used_images(uses)
    if not images and not not_read:
        raise NothingUsed("nothing that was given names an image, so there is nothing to cover")
    profile = view.profile
    store = open_store_if_present(profile)
    runs = last_runs(store.reports.load_all(), shards_of(profile)) if store else {}
    statuses = entry_statuses(profile, profile.sync.registries, runs, now)
    check = CoverageCheck(
        view,
        store,
        StoredImages(profile, store) if store else None,
        {each.registry: each for each in statuses},
        platforms,
        now,
    )
    coverages = [check.judge(each) for each in images]
    return CoverReport(coverages, suggest(coverages, view, platforms), platforms, view.kind, not_read)


def render_cover(report: CoverReport, *, everything: bool) -> Iterator[RenderableType]:
    """What is not covered, all images with `everything`; then the summary. Texts of others are no markup."""
    rows = [each for each in report.coverages if everything or not each.is_covered or each.notes]
    if rows:
        yield _table(rows)
    covered = sum(each.is_covered for each in report.coverages)
    for_nodes = f" for {', '.join(map(str, report.platforms))}" if report.platforms else ""
    style = "bold green" if report.is_covered else "bold red"
    yield Text(f"{covered:,} of {counted(len(report.coverages), 'image')} covered{for_nodes}", style=style)
    for each in report.not_read:
        yield Text(f"not looked at: {each}", style="red")


def render_suggestion(addition: Addition) -> str:
    """Where it belongs, and what to paste."""
    where = "a new registry entry" if addition.keys else f"content of the registry entry {addition.entry}"
    return f"# {where}\n{rendered(addition)}"


def _table(rows: Sequence[Coverage]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("image", "state", "why", "used by"):
        table.add_column(column, overflow="fold")
    for row in sorted(rows, key=lambda each: each.is_covered):
        places = row.image.places
        more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
        name = row.image.full_name if row.image.name else shown(row.image.written)
        table.add_row(
            Text(name),
            Text(row.state, style=_STYLES.get(row.state, "bold red")),
            Text("; ".join(filter(None, (row.reason, *row.notes)))),
            Text(f"{places[0]}{more}" if places else ""),
        )
    return table
