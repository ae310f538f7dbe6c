"""Why a budget is missed: what the profiles showed, in a sentence (DECISIONS.md has the rest)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Judged(Protocol):
    """As much of a row as this needs."""

    @property
    def benchmark(self) -> str: ...

    @property
    def what(self) -> str: ...

    @property
    def verdict(self) -> str: ...


_SMALL_ANSWERS: Final = (
    "one Python thread a process is busy to 100 %, 155 us a request; 45-66 us of them are ours, the rest is "
    "asyncio and granian's glue, and py-spy shows no place that stands out"
)
_ONE_BLOB: Final = (
    "the bare socket with sha256 and write is the ceiling, and reaches some 2 x skopeo itself; rounds lie as "
    "far apart as the brackets say, and another run gave 0.93 x of that socket over http, 0.91 x over https"
)
_WHOLE_IMAGE: Final = (
    "beside skopeo's own work, a GiB costs the receiver 1.6 to 2.1 s of CPU (a raw socket, sha256 and write: "
    "1.7 s) and the server 1.0 s, all on two cores"
)
_TASK_RUNS: Final = (
    "81 task runs, some 8 ms of CPU each here and 10 ms in the Prefect server, which has the same two cores"
)
_POLL: Final = "51 task runs and a flow run on the two cores that the poll itself keeps busy"
# By benchmark, and how the row's name begins.
_REASONS: Final = {
    ("one_blob", "1024 MiB over http"): _ONE_BLOB,
    ("serve", "blobs of 64 KiB"): _SMALL_ANSWERS,
    ("serve", "manifest by"): _SMALL_ANSWERS,
    ("serve", "HEAD"): _SMALL_ANSWERS,
    ("on_demand", "whole image"): _WHOLE_IMAGE,
    ("orchestration", "first mirror"): _TASK_RUNS,
    ("orchestration", "poll"): _POLL,
}


def reasons(rows: Iterable[Judged]) -> str:
    """A list, in Markdown, of the rows that miss their budget; nothing when none does."""
    missed = [row for row in rows if row.verdict.startswith("missed")]
    lines = [f"- {row.benchmark}, {row.what}: {_reason(row)}." for row in missed]
    return "\n".join(["Budgets that are missed, and why:", "", *lines, ""]) if lines else ""


def _reason(row: Judged) -> str:
    for (benchmark, what), reason in _REASONS.items():
        if row.benchmark == benchmark and row.what.startswith(what):
            return reason
    return "not known yet"
