"""`store stats`, drawn for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tasks.sizes import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.store.stats import StoreStats


def render_stats(root: Path, stats: StoreStats) -> Iterator[Text | Table]:
    """The whole in a few lines, then a line a repository."""
    yield Text(f"store {root}: {human_bytes(stats.bytes)} in {stats.blobs:,} blobs")
    without = stats.bytes + stats.saved
    share = f" ({stats.saved / without:.0%} of {human_bytes(without)})" if stats.saved else ""
    yield Text(f"sharing saves {human_bytes(stats.saved)}{share}")
    if stats.incoming_bytes:
        yield Text(f"incoming: {human_bytes(stats.incoming_bytes)}")
    if stats.trash_blobs:
        yield Text(f"trash: {human_bytes(stats.trash_bytes)} in {stats.trash_blobs:,} blobs")
    if stats.quarantined:
        yield Text(f"quarantine: {stats.quarantined:,} corrupt blobs", style="red")
    yield _repositories(stats)


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
