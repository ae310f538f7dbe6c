"""`status`, printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.reporting.console import out, say
from flows.reporting.status_tables import render_counts, render_entries, render_tags

if TYPE_CHECKING:
    from flows.reporting.mirror_status import MirrorStatus
    from flows.reporting.tag_status import TagStatus


def print_status(status: MirrorStatus, *, limit: int | None) -> None:
    """`limit`: beyond as many tags, those that are in place are not listed."""
    if not status.has_store:
        say(f"there is no store at {status.store} yet: run `mirrorflow sync {status.profile}` to make it")
    out.print(render_entries(status.store, status.entries, status.now))
    for line in render_counts(status.policies or {}):
        out.print(line)
    long = limit is not None and len(status.tags) > limit
    shown = [tag for tag in status.tags if _is_remarkable(tag)] if long else status.tags
    if shown:
        out.print(render_tags(shown, status.now))
    if len(shown) < len(status.tags):
        left = len(status.tags) - len(shown)
        say(f"{left:,} tags that are in place are not listed; --all lists them")
    if status.is_complete:
        out.print("everything that the profile wants is in place", style="green")


def _is_remarkable(tag: TagStatus) -> bool:
    return bool(not tag.in_place or tag.held_back or tag.gone_since)
