"""What `up` shows: where everything is, when what runs next, what arrives, and what happens."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.orchestration.runner_events import (
    DeploymentsApplied,
    LeftoversCleared,
    ProfileChanged,
    ProfileRefused,
    RunEnded,
    RunnerFailed,
)
from flows.reporting.progress import TransferRate
from registry_server.counted import counted
from registry_server.human_units import human_bytes, human_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from flows.orchestration.runner_events import EntrySchedule, RunnerEvent
    from profiles.values.poll_timing import PollTiming

_NEXT_RUNS: Final = 3  # of many entries, those that are named
_STYLES = {"Completed": "green", "Failed": "red", "Crashed": "red", "Cancelled": "yellow"}
# A file that has not grown for so long is what an interrupted transfer left, for the next one to resume.
_ACTIVE_SECONDS: Final = 5.0


class SupervisorView:
    """Draws on a console. Texts of others (errors, messages) are never read as markup."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._entries: tuple[EntrySchedule, ...] = ()
        self._timings: Mapping[str, PollTiming] = {}

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep a footer below the lines; nothing where there is no terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def redraw(self, arriving: str, now: float) -> None:
        """The footer: what arrives, and what runs next. `now` in Unix seconds."""
        if self._live is not None:
            self._live.update(
                footer(arriving, upcoming(self._entries, self._timings, now), now), refresh=True
            )

    def schedule(self, entries: Iterable[EntrySchedule], timings: Mapping[str, PollTiming]) -> None:
        """What the footer counts down to; `timings` by registry entry."""
        self._entries, self._timings = tuple(entries), timings

    def begin(
        self,
        *,
        profile: Path,
        store: str,
        registry_url: str,
        ui_url: str,
        notifications_url: str = "",
        receiver_url: str = "",
    ) -> None:
        table = Table.grid(padding=(0, 2))
        shown = (
            ("registry", registry_url),
            ("Prefect UI", ui_url),
            ("notifications", notifications_url),
            ("receiver", receiver_url),
            ("profile", str(profile)),
            ("store", store),
        )
        for name, value in (each for each in shown if each[1]):
            table.add_row(Text(name, style="bold"), Text(value))
        self._console.print(table)

    def report(self, report: RunnerEvent) -> None:
        """Say what the runner told."""
        match report:
            case DeploymentsApplied(entries):
                self._console.print(schedule_table(entries))
                self._line(Text("Press Ctrl-C to stop. A changed profile is applied by itself.", style="dim"))
            case LeftoversCleared(crashed, dropped):
                self._line(Text(cleared_words(crashed, dropped)))
            case ProfileChanged():
                self._line(Text(changed_words(report)))
                if report.added or report.changed or report.removed:
                    self._console.print(schedule_table(report.entries))
            case ProfileRefused(message):
                self._line(
                    Text("the changed profile is refused, the previous one stays active:", style="yellow")
                )
                self._console.print(Text(message))
            case RunEnded(name, state, message, failed):
                self._line(
                    Text.assemble((f"{name}: ", "bold"), (state, _STYLES.get(state, "")), f" {message}")
                )
                for line in failed:
                    self._console.print(Text(f"  {line}", style="red"))
            case RunnerFailed():  # the caller turns it into the error that ends `up`
                return

    def say(self, text: str) -> None:
        self._line(Text(text))

    def _line(self, text: Text) -> None:
        self._console.print(Text.assemble((time.strftime("%H:%M:%S "), "dim"), text))


def upcoming(
    entries: Iterable[EntrySchedule], timings: Mapping[str, PollTiming], now: float
) -> list[tuple[float, str]]:
    """When which registry entry runs next, soonest first; after a time that has passed comes the next one."""
    found = []
    for entry in entries:
        due, timing = entry.due, timings.get(entry.name)
        if due is not None and due <= now and timing is not None:
            moments = (datetime.fromtimestamp(each, UTC) for each in (due, now))
            due = timing.next_due(*moments).timestamp()
        if due is not None and due > now:
            found.append((due, entry.name))
    return sorted(found)


def footer(arriving: str, runs: Sequence[tuple[float, str]], now: float) -> Text:
    """One line for what arrives, one for the next runs."""
    lines = [Text.assemble(("arriving: ", "bold"), arriving)] if arriving else []
    if runs:
        said = [f"{name} at {_clock(due, now)} (in {human_seconds(round(due - now))})" for due, name in runs]
        more = f" and {len(runs) - _NEXT_RUNS:,} more" if len(runs) > _NEXT_RUNS else ""
        lines.append(Text.assemble(("next run: ", "bold"), ", ".join(said[:_NEXT_RUNS]) + more))
    return Text("\n", style="dim").join(lines)


def schedule_table(entries: Iterable[EntrySchedule]) -> Table:
    """The registry entries, how often each is looked at, and when it is next."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("registry entry", "schedule", "next run"):
        table.add_column(heading, header_style="bold")
    for entry in entries:
        where = f", by workers of {entry.work_pool}" if entry.work_pool else ""
        table.add_row(Text(entry.name), Text(f"{entry.timing or 'no schedule'}{where}"), _next_run(entry))
    return table


def _next_run(entry: EntrySchedule) -> str:
    if entry.started:
        return "now"
    if entry.paused:
        return "paused in Prefect"
    if entry.due is None:
        return "-"
    return _clock(entry.due, time.time())


def _clock(moment: float, now: float) -> str:
    pattern = "%H:%M:%S" if moment - now < 12 * 3600 else "%a %d %b %H:%M"
    return time.strftime(pattern, time.localtime(moment))


def cleared_words(crashed: int, dropped: int) -> str:
    """What was mended of an earlier process."""
    parts = []
    if crashed:
        parts.append(f"{counted(crashed, 'run')} marked as crashed")
    if dropped:
        parts.append(f"{counted(dropped, 'late run')} dropped")
    return "cleaned up after an earlier process: " + (", ".join(parts) or "an unused concurrency slot")


def changed_words(report: ProfileChanged) -> str:
    """Which entries a new profile concerns."""
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (("added", report.added), ("changed", report.changed), ("removed", report.removed))
        if names
    ]
    words = "profile applied: " + ("; ".join(parts) or "schedules and rules unchanged")
    return f"{words}; {report.note}" if report.note else words


@dataclass(slots=True)
class ArrivingBlobs:
    """Looks at the folders of incoming blobs; a process of its own needs no other way to know."""

    folders: Sequence[str]
    _sizes: dict[str, int] = field(default_factory=dict)
    _received: int = 0
    _rate: TransferRate = field(default_factory=TransferRate)

    def look(self, now: float) -> str:
        """E.g. `3 blobs, 120.4 MB so far, 45.0 MB/s`; "" when nothing arrives. `now` in Unix seconds."""
        found = {entry.path: status for entry, status in self._files()}
        sizes = {path: status.st_size for path, status in found.items()}
        self._received += sum(max(0, size - self._sizes.get(path, 0)) for path, size in sizes.items())
        self._sizes = sizes
        self._rate.add(self._received, now)
        active = [each.st_size for each in found.values() if each.st_mtime >= now - _ACTIVE_SECONDS]
        if not active:
            return ""
        blobs = f"{len(active):,} blob{'s' * (len(active) != 1)}, {human_bytes(sum(active))} so far"
        return ", ".join(filter(None, (blobs, self._rate.words(0))))

    def _files(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        for folder in self.folders:
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # it is whole, and in the pool
                        yield entry, entry.stat()
