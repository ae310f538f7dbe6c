"""Why a budget is missed: what the profiles showed, in a sentence (benchmarks/NOTES.md has the rest)."""

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


_START: Final = (
    "by -X importtime all of it is importing, for --help mostly typer and rich, for check half pydantic and "
    "the building of our models; these cores start a bare Python in twice the time of those where it was met"
)
_SMALL_ANSWERS: Final = (
    "one Python thread a process is busy to 100 %, some 140 us for a manifest and 190 us for a blob of "
    "64 KiB; by py-spy a quarter of it is system calls, a fifth granian's and the event loop's"
)
_HTTP: Final = (
    "the bare socket with sha256 and write is the ceiling, and rounds lie as far apart as the brackets say"
)
_HTTPS: Final = (
    "37 % is SSL_read, 30 % pwrite, 16 % sha256, and nginx encrypts on the other core; skopeo agrees on "
    "AES-128, which Python 3.11 cannot ask for with TLS 1.3; the bare socket is some 2 x skopeo itself"
)
_WHOLE_IMAGE: Final = (
    "skopeo alone takes 6 s of CPU for a GiB, the receiver 2.5 s (no more than the bare socket of one_blob) "
    "and the server 1.1 s, all on two cores"
)
_TASK_RUNS: Final = (
    "81 task runs, some 8 ms of CPU each here and 10 ms in the Prefect server, which has the same two cores"
)
_POLL: Final = "51 task runs and a flow run on the two cores that the poll itself keeps busy"
# By benchmark, and how the row's name begins.
_REASONS: Final = {
    ("start", "mirrorflow"): _START,
    ("one_blob", "1024 MiB over https"): _HTTPS,
    ("one_blob", "1024 MiB over http"): _HTTP,
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
