"""The long lists of the page, cut into pages by the name that the last one ended with. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from tasks.results.outcomes import Outcome
from tasks.run.only import repository_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flows.reporting.page.snapshot import Summary
    from flows.reporting.tag_status import TagStatus

PAGE: Final = 100
"""Rows of a page."""
_OUTCOMES: Final = (Outcome.FAILED, Outcome.NOT_REACHED, Outcome.COPIED, Outcome.SKIPPED)

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Cut(Generic[Row]):
    """`next` is what the following page begins after; "" when there is none."""

    rows: Sequence[Row]
    next: str
    total: int


def cut(rows: Sequence[Row], key: Callable[[Row], str], after: str) -> Cut[Row]:
    """At most `PAGE` of rows that are sorted by `key`, which is another text for each."""
    left = [row for row in rows if key(row) > after] if after else rows
    shown = left[:PAGE]
    return Cut(shown, key(shown[-1]) if len(left) > PAGE else "", len(rows))


def repositories(summaries: Iterable[Summary], words: str, after: str) -> Cut[Summary]:
    """Those whose name contains `words`."""
    wanted = words.strip().lower()
    found = sorted((each for each in summaries if wanted in each.name), key=lambda each: each.name)
    return cut(found, lambda each: each.name, after)


def tags(rows: Iterable[TagStatus], words: str, after: str) -> Cut[TagStatus]:
    """Those of a repository whose tag or digest contains `words`. Two entries may want the same tag."""
    found = sorted((row for row in rows if words.strip() in row.reference), key=tag_key)
    return cut(found, tag_key, after)


def problems(rows: Sequence[TagStatus], after: str) -> Cut[TagStatus]:
    return cut(sorted(rows, key=problem_key), problem_key, after)


def tag_key(row: TagStatus) -> str:
    return f"{row.reference} {row.registry} {row.destination}"


def problem_key(row: TagStatus) -> str:
    return f"{row.repository} {tag_key(row)}"


def runs(reports: Iterable[Mapping[str, Any]], registry: str, after: str) -> Cut[Mapping[str, Any]]:
    """The newest first; `after` is the key of a run."""
    found = [each for each in reports if registry in ("", each["registry"])]
    found.sort(key=run_key, reverse=True)
    left = [each for each in found if run_key(each) < after] if after else found
    shown = left[:PAGE]
    return Cut(shown, run_key(shown[-1]) if len(left) > PAGE else "", len(found))


def report_for(
    report: Mapping[str, Any], may_see: Callable[[str], bool], *, texts: bool
) -> Mapping[str, Any]:
    """What of a report a visitor may see. Without `texts` no sentence and no sum, which are of all images."""
    if texts:
        return report
    visible = [each for each in report["images"] if may_see(repository_of(each["image"]))]
    mine: dict[str, Any] = {
        "message": "",
        "only": (),
        "totals": None,
        "problems": (),
        "notes": (),
        "requests": {},
    }
    return {**report, **mine, "budget": "", "images": visible}


def run_key(report: Mapping[str, Any]) -> str:
    return f"{report['started']} {report['runId']} {report.get('shard', '')}"


def images_of(report: Mapping[str, Any], after: int) -> tuple[Sequence[Mapping[str, Any]], int, int]:
    """A page of a run's images, failures first; the number that the next page begins at (0: none); all."""
    visible = sorted(report["images"], key=lambda each: (_rank(each["outcome"]), each["image"]))
    following = after + PAGE if len(visible) > after + PAGE else 0
    return visible[after : after + PAGE], following, len(visible)


def _rank(outcome: str) -> int:
    return _OUTCOMES.index(outcome) if outcome in _OUTCOMES else len(_OUTCOMES)
