"""`status`, printed, or shown for as long as somebody watches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from flows.entries import open_store_if_present
from flows.reporting.console import is_narrow, out, say
from flows.reporting.status_tables import render_counts, render_entries, render_tags, render_tags_narrow
from flows.supervisor.view import ArrivingBlobs
from tasks.run.errors import NotWanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from flows.reporting.mirror_status import MirrorStatus
    from flows.reporting.tag_status import TagStatus
    from profiles.model.profile import Profile

_PAUSE: Final = 2.0  # seconds between two looks
_SHARE: Final = 10  # a look that took one second is repeated after as many
_REDRAW: Final = 0.5  # seconds: what arrives is a look at one folder


def print_status(status: MirrorStatus, *, limit: int | None) -> None:
    """`limit`: beyond as many tags, those that are in place are not listed."""
    if not status.has_store:
        say(f"there is no store at {status.store} yet: run `mirrorflow sync {status.profile}` to make it")
    long = limit is not None and len(status.tags) > limit
    shown = [tag for tag in status.tags if _is_remarkable(tag)] if long else status.tags
    for each in _parts(status, shown):
        out.print(each)
    if len(shown) < len(status.tags):
        left = len(status.tags) - len(shown)
        say(f"{left:,} tags that are in place are not listed; --all lists them")
    if status.is_complete:
        out.print("everything that the profile wants is in place", style="green")


def watch_status(look: Callable[[], MirrorStatus], arriving: Callable[[], str]) -> MirrorStatus:
    """Show what is not in place, and what arrives, until Ctrl-C; the last status. Raises what `look` raises.

    `arriving`: a line about the blobs that arrive now; "" when none does.
    """
    if not out.is_terminal:
        raise NotWanted("--watch needs a terminal; leave it out, or use `status --json` in a loop")
    with Live(console=out, screen=True, auto_refresh=False) as live:
        try:
            while True:
                began = time.monotonic()
                status = look()
                pause = max(_PAUSE, _SHARE * (time.monotonic() - began))
                while time.monotonic() < began + pause:
                    live.update(_screen(status, arriving()), refresh=True)
                    time.sleep(_REDRAW)
        except KeyboardInterrupt:
            return status


def arriving_in(profile: Profile) -> Callable[[], str]:
    """What arrives in the store of the profile, once there is one."""
    blobs = ArrivingBlobs(())

    def look() -> str:
        if not blobs.folders and (store := open_store_if_present(profile)) is not None:
            blobs.folders = [root.incoming.folder for root in store.roots]
        return blobs.look(time.time())

    return look


def _screen(status: MirrorStatus, arriving: str) -> Group:
    remarkable = [tag for tag in status.tags if _is_remarkable(tag)]
    clock = time.strftime("%H:%M:%S", time.localtime(status.now))
    words = f"{clock}: {len(status.tags):,} tags, {len(remarkable):,} of them shown; Ctrl-C ends"
    lines = [Text(f"arriving: {arriving}")] if arriving else []
    if status.is_complete:
        lines.append(Text("everything that the profile wants is in place", style="green"))
    return Group(Text(words, style="dim"), *lines, *_parts(status, remarkable))


def _parts(status: MirrorStatus, tags: Sequence[TagStatus]) -> Iterator[RenderableType]:
    narrow = is_narrow(out)
    yield render_entries(status.store, status.entries, status.now, narrow=narrow)
    yield from render_counts(status.policies or {})
    if tags:
        yield (render_tags_narrow if narrow else render_tags)(tags, status.now)


def _is_remarkable(tag: TagStatus) -> bool:
    return bool(not tag.in_place or tag.held_back or tag.gone_since)
