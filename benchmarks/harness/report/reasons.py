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
    "by -X importtime nearly all of it is importing: of 0.36 s, 0.165 are 284 modules of ours, of "
    "which half is making 227 dataclasses; pydantic and typer take 0.09 s, the models of a profile "
    "0.07 s"
)
_FEW_TAGS: Final = (
    "it is the start: of 0.41 s, two thirds are imports and a sixth the command line and the profile;"
    " the poll itself takes 0.1 s, and a program of Go starts in ten milliseconds"
)
_POLL_OF_MANY: Final = (
    "121 us of CPU a tag, of which the HEAD and comparing the tag with the store are two thirds; a "
    "quarter of the wall is the start of Python and its imports"
)
_FIRST_MIRROR: Final = (
    "the slots of the upstream are taken 95 % of the time, for 21.5 ms a request where a bare client "
    "needs 20.9: the wall is the number of requests, of which 300 are HEADs and 300 lists of "
    "referrers; oras asks for neither, regsync for no referrers; 0.4 s are the start of Python"
)
_THROUGH_UP: Final = (
    "the command imports Prefect's client and waits for a run that up has to start, a process of Prefect "
    "beside its server on the same cores"
)
_SMALL_ANSWERS: Final = (
    "one Python thread a process is busy to 100 %: 43 us for a manifest, of which granian with an "
    "application that does nothing takes 15, and 64 us for a blob of 64 KiB"
)
_BIG_ANSWERS: Final = (
    "at 3 GB/s the client takes one of the two cores; one process of ours sends pieces from one "
    "thread, registries have the rest of both"
)
_HTTP: Final = (
    "the bare socket with sha256 and write is the ceiling, and rounds lie as far apart as the brackets say"
)
_HTTPS: Final = (
    "a bare TLS socket in Python has the same ceiling: 41 % is receiving and decrypting in two reads a "
    "record, 24 % sha256, the rest writing; the peers have two cores for one blob"
)
_WHOLE_IMAGE: Final = (
    "skopeo alone takes 6 s of CPU for a GiB, the receiver 2.5 s (no more than the bare socket of "
    "one_blob) and the server 1.1 s, all on two cores"
)
_COLD_PULL: Final = (
    "the bytes come at the 200 MB/s of the upstream, and receiver and server share two cores with it, its "
    "proxy and the client"
)
_MISSES: Final = (
    "a miss is a signed call from the server to the receiver and steps in threads of one interpreter, "
    "some 3 ms of CPU; at once they wait for each other, and for whatever else has the cores"
)
_TASK_RUNS: Final = (
    "some 80 task runs, 8 ms of CPU each here and 10 ms in the Prefect server, which has the same two cores"
)
_POLL: Final = "51 task runs and a flow run on the two cores that the poll itself keeps busy"
_BUCKET: Final = (
    "opening a store in a bucket and its lists cost some 40 requests a run, and a new image a blob, a "
    "marker and a manifest each; the client is Python beside one of Go"
)
_VERIFYING: Final = "importing cryptography and sigstore, and the lists of referrers"
_DESTINATION: Final = (
    "httpx takes some 1.5 ms of CPU a request, and Python 1 s to start; regsync a quarter of that"
)
_FUNCTIONS: Final = (
    "longer functions or fewer features would reach it: of the functions of a sync 230 are the "
    "store's and the content's, 165 the client's of the upstream, and few of the rest only hand a "
    "call on"
)
_GROWTH: Final = (
    "one round beside other work; a repository has a tenth of the tags, so that its list, which is held in "
    "memory, grows from 100 to 10,000 of them"
)
_WORKERS: Final = (
    "two cores have the upstream on them as well: a second worker takes what the upstream needs, and one "
    "more start of Python; where there are more cores it was not measured"
)
# By benchmark, and how the row's name begins; the first that fits.
_REASONS: Final = {
    ("start", "mirrorflow"): _START,
    ("nothing_new", "poll of 50"): _FEW_TAGS,
    ("nothing_new", "poll of"): _POLL_OF_MANY,
    ("few_new", "poll of"): _POLL_OF_MANY,
    ("one_blob", "1024 MiB over https"): _HTTPS,
    ("one_blob", "1024 MiB over http"): _HTTP,
    ("first_mirror", "20 images, sync through"): _THROUGH_UP,
    ("first_mirror", "300 images, sync through"): _THROUGH_UP,
    ("first_mirror", ""): _FIRST_MIRROR,
    ("to_registry", ""): _DESTINATION,
    ("serve", "1 blob"): _BIG_ANSWERS,
    ("serve", "half of it"): _BIG_ANSWERS,
    ("serve", ""): _SMALL_ANSWERS,
    ("on_demand", "whole image"): _WHOLE_IMAGE,
    ("on_demand", ""): _MISSES,
    ("pull_through", "cold"): _COLD_PULL,
    ("pull_through", ""): _MISSES,
    ("object_storage", ""): _BUCKET,
    ("workers", ""): _WORKERS,
    ("verification", ""): _VERIFYING,
    ("orchestration", "first mirror"): _TASK_RUNS,
    ("orchestration", "poll"): _POLL,
    ("growth", ""): _GROWTH,
    ("paths", ""): _FUNCTIONS,
}


def reasons(rows: Iterable[Judged]) -> str:
    """A list, in Markdown, of the rows that miss their budget; nothing when none does."""
    missed = [row for row in rows if row.verdict.startswith("missed")]
    found: dict[tuple[str, str], list[str]] = {}
    for row in missed:
        found.setdefault((row.benchmark, _reason(row)), []).append(row.what)
    lines = [f"- {benchmark}, {'; '.join(rows)}: {reason}." for (benchmark, reason), rows in found.items()]
    return "\n".join(["Goals that are missed, and why:", "", *lines, ""]) if lines else ""


def _reason(row: Judged) -> str:
    for (benchmark, what), reason in _REASONS.items():
        if row.benchmark == benchmark and row.what.startswith(what):
            return reason
    return "not known yet"
