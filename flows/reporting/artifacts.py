"""What Prefect shows of a run beside its graph: progress while it runs, then summary, table and state."""

from __future__ import annotations

import logging
import re
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from flows.entries import part_name, run_name
from flows.lifecycle.engine_process import is_engine_process
from flows.reporting.console import complain
from profiles.values.shard import Shard, ShardInvalid
from registry_server.human_units import human_bytes, human_seconds
from tasks.engines.prefect_tasks import STOPPED
from tasks.results.outcomes import Outcome

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from tasks.results.report import Report

log = logging.getLogger("mirrorflow")

# A table of thousands of rows is a wall; the JSON report in the store has them all.
_ROWS: Final = 500
_UNFINISHED: Final = TaskRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])


def current_run_name() -> str:
    """What the current flow run is called: `mirror docker-hub`, or `mirror docker-hub:2-of-4`."""
    parameters = flow_run.parameters
    shard = parameters.get("shard")
    try:
        return run_name(part_name(parameters["registry"], Shard.parse(shard) if shard else None))
    except ShardInvalid:  # the flow itself ends with the message
        return run_name(parameters["registry"])


class RunArtifacts:
    """The three artifacts of the current flow run. Made inside a flow; one thread at a time.

    `part` names the registry entry, or the shard of it.
    """

    def __init__(self, part: str) -> None:
        self._part = part
        self._key = re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") or "registry"
        self._progress: UUID | None = None
        self._shown: tuple[float, str] = (-1.0, "")
        self._context = copy_context()  # another thread has no run
        self.run_id = str(flow_run.id or "")

    def progress(self, percent: float, words: str) -> None:
        if (percent, words) == self._shown:
            return
        self._shown = (percent, words)
        if self._progress is None:
            self._progress = create_progress_artifact(percent, key=f"progress-{self._key}", description=words)  # type: ignore[assignment] # the stub says None or a coroutine; in a sync flow it is the id
        else:
            update_progress_artifact(self._progress, progress=percent, description=words)

    def publish(self, report: Report) -> None:
        """The summary and the table of the finished run."""
        create_markdown_artifact(
            summary(report), key=f"summary-{self._key}", description=f"{self._part}: {report.message}"
        )
        rows = table(report)
        if rows:
            left = len(report.images) - len(rows)
            more = f" ({left:,} more in the report)" if left else ""
            create_table_artifact(
                rows,
                key=f"images-{self._key}",
                description=f"Images that were copied, failed or were left out{more}",
            )

    def not_saved(self, reason: str) -> None:
        """The store is full, or read-only."""
        log.error("%s", reason)

    def abandoned(self, report: Report) -> bool:
        """The process has to exit with the run unfinished."""
        (log.warning if is_engine_process() else complain)(f"{report.registry}: {report.message}")
        if self.run_id:
            self._context.run(cancel_now, UUID(self.run_id), report.message)
        return bool(self.run_id)


def cancel_now(run: UUID, message: str) -> None:
    """The run and the task runs that it leaves unfinished; the run first, for it is what others wait for."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Cancelled(message=message), force=True)
        for task_run in client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
            task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=_UNFINISHED)),
        ):
            client.set_task_run_state(task_run.id, Cancelled(message=STOPPED), force=True)


def final_state(report: Report) -> State[None]:
    """What the run ends in."""
    if report.stopped:
        return Cancelled(message=report.message)
    return (Completed if report.complete else Failed)(message=report.message)


def summary(report: Report) -> str:
    """Markdown: is the mirror complete, and if not, why."""
    verdict = "complete" if report.complete else "stopped" if report.stopped else "**not complete**"
    what = f"shard {report.shard} of this registry" if report.shard else "this registry"
    lines = [
        f"## {part_name(report.registry, report.shard)}: {report.message}",
        "",
        f"The mirror of {what} is {verdict}.",
        "",
        "| | |",
        "|---|---|",
        f"| images wanted | {report.total:,} |",
        f"| unchanged | {report.unchanged:,} |",
        f"| copied | {report.count(Outcome.COPIED):,} |",
        f"| failed | {report.count(Outcome.FAILED):,} |",
        f"| left out | {report.count(Outcome.SKIPPED):,} |",
        f"| bytes fetched | {human_bytes(report.bytes_moved)} |",
        f"| bytes already stored | {human_bytes(report.bytes_saved)} |",
        f"| time | {human_seconds(report.ended - report.started)} |",
        f"| requests | {', '.join(f'{count:,} {kind}' for kind, count in sorted(report.requests.items()))} |",
    ]
    if report.budget:
        lines.append(f"| rate limit of the upstream | {report.budget} |")
    lines += ["", *(f"- {problem}" for problem in report.problems)]
    lines += ["", "### Notes", "", *(f"- {note}" for note in report.notes)] if report.notes else []
    dropped = report.dropped.lines()
    lines += ["", "### Dropped", "", *(f"- {line}" for line in dropped)] if dropped else []
    failed = [image for image in report.images if image.outcome is Outcome.FAILED]
    lines += ["", "### Failed", ""] if failed else []
    lines += [f"- `{image.image}` at {image.step}: {image.reason}" for image in failed[:20]]
    return "\n".join(lines)


def table(report: Report) -> list[dict[str, Any]]:
    """Failures first, then what was copied and left out."""
    return [
        {
            "image": image.image,
            "outcome": str(image.outcome),
            "reason": image.reason,
            "moved": human_bytes(image.bytes_moved),
            "size": human_bytes(image.size),
            "seconds": round(image.seconds, 1),
            "digest": image.digest,
            "signatures": image.verdict,
            "companions": sum(each["outcome"] == "copied" for each in image.companions),
        }
        for image in report.images[:_ROWS]
    ]
