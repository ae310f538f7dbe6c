"""Plans, reports and status, drawn for a terminal. Texts of others never become markup."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from profiles.model.destination import STORE
from registry_server.counted import counted
from registry_server.human_units import human_bytes, human_seconds
from tasks.run.dropped_tags import DroppedTags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from tasks.planning import Plan

_ROWS = 40
_STYLES = {"copied": "green", "failed": "bold red", "not reached": "red", "left out": "yellow"}


def render_report(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The summary that answers "is my mirror complete?", then what was not simply unchanged."""
    totals = report["totals"]
    style = "bold green" if report["state"] == "complete" else "bold red"
    shard = f", shard {report['shard']}" if report.get("shard") else ""
    yield Text.assemble((report["registry"] + shard, "bold"), ": ", (report["message"], style))
    moved, saved = human_bytes(totals["bytesMoved"]), human_bytes(totals["bytesSaved"])
    yield Text(f"  {moved} moved, {saved} already stored, {human_seconds(report['seconds'])}")
    if report["budget"]:
        yield Text(f"  rate limit of the upstream: {report['budget']}")
    for problem in report["problems"][1:]:  # the message has the first one
        yield Text(f"  {problem}", style="red")
    for note in report.get("notes", ()):  # reports of older versions have none
        yield Text(f"  {note}", style="yellow")
    dropped = DroppedTags.from_json(report.get("droppedTags", {}), report.get("droppedExamples", {}))
    for line in dropped.lines():
        yield Text(f"  {line}", style="dim")
    for glass in report.get("breakGlass", ()):
        state = "has expired and has no effect" if glass["expired"] else f"until {glass['expires']}"
        yield Text(f"  breakGlass: {glass['digest']} {state}: {glass['reason']}", style="yellow")
    if report["images"]:
        yield _images(report["images"])


def _images(images: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("image", "outcome", "moved", "why"):
        table.add_column(column, overflow="fold")
    for image in images[:_ROWS]:
        table.add_row(
            Text(f"  {image['image']}"),
            Text(image["outcome"], style=_STYLES.get(image["outcome"], "")),
            human_bytes(image["bytesMoved"]),
            Text(_why(image)),
        )
    if len(images) > _ROWS:
        table.add_row(f"  and {len(images) - _ROWS:,} more, in the report", "", "", "")
    return table


def _why(image: Mapping[str, Any]) -> str:
    """The reason; who signed, where a policy asked for that; companions that did not come."""
    said = [image["reason"]]
    if image["outcome"] == "copied" and image.get("signedBy"):
        said.append(image["verdict"])
    lost = [each for each in image.get("companions", ()) if each["outcome"] != "copied"]
    said += [f"companion {each['companion'][:19]} {each['outcome']}: {each['reason']}" for each in lost[:3]]
    return "; ".join(said)


def render_plans(plans: Sequence[Plan]) -> Iterator[RenderableType]:
    for plan in plans:
        yield from _plan(plan)


def _plan(plan: Plan) -> Iterator[RenderableType]:
    changes = Counter(image.change for image in plan.images)
    yield Text.assemble(
        (plan.registry, "bold"),
        "" if plan.to == (STORE,) else f" to {', '.join(plan.to)}",
        f": add {changes['add']:,}, move {changes['move']:,}, follow {changes['follow']:,}, "
        f"unchanged {plan.unchanged:,}, "
        + (f"remove {len(plan.prune):,}, " if plan.prune else "")
        + f"left out {len(plan.left_out):,}, refused {len(plan.refused):,}, problems {len(plan.problems):,}",
    )
    new = sum(image.new_bytes for image in plan.images)
    held = sum(image.held_bytes for image in plan.images)
    yield Text(
        f"  {human_bytes(new)} to fetch, {human_bytes(held)} shared or already stored, "
        f"{counted(plan.manifest_gets, 'GET of a manifest', 'GETs of manifests')}"
    )
    for line in plan.dropped.lines():
        yield Text(f"  {line}", style="dim")
    for name, reason in plan.left_out.items():
        yield Text(f"  {name} {reason}", style="yellow")
    for name, reason in plan.refused.items():
        yield Text(f"  {name} will be refused: {reason}", style="red")
    for name in plan.prune:
        yield Text(f"  {name} is removed: the upstream deleted it", style="yellow")
    for note in plan.notes:
        yield Text(f"  {note}", style="yellow")
    for name, reason in plan.problems.items():
        yield Text(f"  {name}: {reason}", style="red")
    if plan.images:
        yield _planned(plan)


def _planned(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("image", "from", "change", "companions", "fetch", "here"):
        table.add_column(column, overflow="fold")
    for image in plan.images[:_ROWS]:
        table.add_row(
            Text(f"  {image.image}"),
            Text(image.upstream),
            f"{image.change}, converted" if image.becomes else image.change,
            str(image.companions or ""),
            human_bytes(image.new_bytes),
            human_bytes(image.held_bytes),
        )
    if len(plan.images) > _ROWS:
        table.add_row(f"  and {len(plan.images) - _ROWS:,} more; --json has them all", *[""] * 5)
    return table
