"""`status` and `store stats`, drawn for a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from profiles.model.destination import STORE
from registry_server.counted import counted
from registry_server.human_units import human_bytes, human_seconds
from tasks.run.values import NO_POLICY

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence

    from flows.cli.stored_tags import StoredTag
    from flows.reporting.entry_status import EntryStatus
    from flows.reporting.tag_status import TagStatus
    from registry_server.store.maintenance.stats import StoreStats
    from tasks.stored.images import Standing

_DIGEST = 19  # `sha256:` and twelve hex digits


def render_entries(where: str, entries: Sequence[EntryStatus], now: float, *, narrow: bool = False) -> Table:
    """One line for each registry entry: its last run over all of it, and whether that is enough.

    `narrow`: for some 80 columns; the ids of runs are left out.
    """
    table = Table(
        title=f"store {where}", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in ("registry", "last run", "outcome"):
        table.add_column(column, overflow="fold")
    if not narrow:
        table.add_column("run", no_wrap=True)
    for entry in entries:
        style = "green" if entry.in_place else "red"
        table.add_row(
            Text(entry.registry),
            _ago(entry.ended, now),
            Text(entry.message, style=style),
            *([] if narrow else [entry.report.get("runId", "")]),
        )
    return table


def render_counts(counts: Mapping[str, Counter[Standing]]) -> Iterator[Text]:
    """One line for each registry entry with images that are not as its policies want them."""
    for registry, found in counts.items():
        said = ", ".join(f"{count:,} {standing}" for standing, count in found.items())
        yield Text.assemble((registry, "bold"), ": ", (f"images {said}", "red"))


def render_tags(rows: Sequence[TagStatus], now: float) -> Table:
    """One line a tag; a digest is printed twice only where the two differ.

    Verdicts and destinations where there are any.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = ["registry", "image", "upstream", "stored", "checked", "in place", "why not"]
    judged = any(_verdict(row) for row in rows)
    elsewhere = any(row.destination != STORE for row in rows)
    for column in columns + ["signatures"] * judged + ["destination"] * elsewhere:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            Text(row.registry),
            _image(row),
            "gone" if row.gone_since is not None else row.upstream_digest[:_DIGEST],
            _stored(row),
            _ago(row.last_check, now),
            _ago(row.last_success, now),
            Text(row.problem, style="red") if row.problem else Text(_remark(row), style="yellow"),
            *([Text(_verdict(row))] if judged else []),
            *([row.destination] if elsewhere else []),
        )
    return table


def render_tags_narrow(rows: Sequence[TagStatus], now: float) -> Table:
    """The same for some 80 columns: what is wrong stands below the image, and a digest has twelve digits.

    A registry entry is a heading, where there are several.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("image", overflow="fold")
    for column in ("upstream", "stored", "in place"):
        table.add_column(column, no_wrap=True)
    heading = rows[0].registry if len({row.registry for row in rows}) == 1 else None
    for row in rows:
        if row.registry != heading:
            heading = row.registry
            table.add_row(Text(heading, style="bold"))
        table.add_row(
            Text("\n  ").join([_image(row), *_below(row)]),
            "gone" if row.gone_since is not None else _short(row.upstream_digest),
            "same" if row.stored_digest == row.upstream_digest != "" else _short(row.stored_digest),
            _ago(row.last_success, now),
        )
    return table


def _image(row: TagStatus) -> Text:
    sign = "@" if ":" in row.reference else ":" if row.reference else ""
    return Text(f"{row.repository}{sign}{row.reference}")


def _below(row: TagStatus) -> Iterator[Text]:
    if row.problem:
        yield Text(row.problem, style="red")
    elif remark := _remark(row):
        yield Text(remark, style="yellow")
    if row.converted_from and row.stored_digest:
        yield Text(f"converted from {_short(row.converted_from)}", style="dim")
    if verdict := _verdict(row):
        yield Text(verdict, style="dim")
    if row.destination != STORE:
        yield Text(f"in {row.destination}", style="dim")


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12] or "-"


def _remark(row: TagStatus) -> str:
    """What is no problem, and worth a word."""
    if row.gone_since is None:
        return row.held_back
    return f"gone upstream since {datetime.fromtimestamp(row.gone_since, UTC):%Y-%m-%dT%H:%MZ}"


def _verdict(row: TagStatus) -> str:
    """What a policy said; that there is none is not worth a word for each tag."""
    return "" if row.verdict == NO_POLICY else row.verdict


def _stored(row: TagStatus) -> str:
    if not row.stored_digest:
        return "-"
    stored = row.stored_digest[:_DIGEST]
    if not row.converted_from:
        return "same" if row.stored_digest == row.upstream_digest else stored
    return f"{stored}, converted from {row.converted_from[:_DIGEST]}"


def _ago(moment: float | None, now: float) -> str:
    return f"{human_seconds(max(0.0, now - moment))} ago" if moment else "never"


def render_stats(where: str, stats: StoreStats) -> Iterator[Text | Table]:
    """The whole in a few lines, then a line a repository."""
    yield Text(f"store {where}: {human_bytes(stats.bytes)} in {counted(stats.blobs, 'blob')}")
    without = stats.bytes + stats.saved
    share = f" ({stats.saved / without:.0%} of {human_bytes(without)})" if stats.saved else ""
    yield Text(f"sharing saves {human_bytes(stats.saved)}{share}")
    if stats.incoming_bytes:
        yield Text(f"incoming: {human_bytes(stats.incoming_bytes)}")
    if stats.trash_blobs:
        yield Text(f"trash: {human_bytes(stats.trash_bytes)} in {counted(stats.trash_blobs, 'blob')}")
    if stats.quarantined:
        yield Text(f"quarantine: {counted(stats.quarantined, 'corrupt blob')}", style="red")
    yield _repositories(stats)


def render_stored_narrow(tags: Sequence[StoredTag]) -> Table:
    """The same for some 80 columns: where a tag comes from stands below it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("image", overflow="fold")
    for column in ("digest", "stored"):
        table.add_column(column, no_wrap=True)
    for each in tags:
        table.add_row(
            Text("\n  ").join([Text(str(each.name)), *_told_below(each)]),
            _short(str(each.record.digest)),
            f"{datetime.fromtimestamp(each.record.pushed, UTC):%Y-%m-%d %H:%MZ}",
        )
    return table


def _told_below(tag: StoredTag) -> Iterator[Text]:
    origin = tag.record.origin
    same = origin is not None and origin.repository == tag.name.repository
    source = "a push" if origin is None else origin.registry if same else tag.source
    yield Text(f"from {source}", style="dim")
    if tag.hidden:
        yield Text("hidden by a policy", style="yellow")


def render_stored(tags: Sequence[StoredTag]) -> Table:
    """A line a tag. Whether a policy hides it is said where there is such a tag."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    hides = any(each.hidden for each in tags)
    for column in ["image", "digest", "stored", "from"] + ["hidden"] * hides:
        table.add_column(column, overflow="fold")
    for each in tags:
        table.add_row(
            Text(str(each.name)),
            each.record.digest[:_DIGEST],
            f"{datetime.fromtimestamp(each.record.pushed, UTC):%Y-%m-%d %H:%MZ}",
            Text(each.source or "a push"),
            *(["by a policy" if each.hidden else ""] if hides else []),
        )
    return table


def _repositories(stats: StoreStats) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("repository", overflow="fold")
    for column in ("tags", "manifests", "blobs", "size", "alone"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in stats.repositories:
        table.add_row(
            Text(each.name),
            f"{each.tags:,}",
            f"{each.manifests:,}",
            f"{each.blobs:,}",
            human_bytes(each.bytes),
            human_bytes(each.alone),
        )
    return table
