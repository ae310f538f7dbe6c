"""When a registry entry is polled: every so often (`pollInterval`), or at certain times (`schedule`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from profiles.errors import Refusal
from profiles.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

# crontab(5): minute, hour, day of month, month, day of week.
_FIELDS: Final = 5
_FIELD: Final = re.compile(r"[0-9A-Za-z*/,-]+", re.ASCII)
_NAMES: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_ADVICE: Final = "write minute, hour, day, month and weekday, e.g. '30 3 * * *' for half past three"


@dataclass(frozen=True, slots=True)
class PollInterval:
    """Whole numbers of `seconds` after the last success."""

    seconds: float

    def next_due(self, anchor: datetime, now: datetime) -> datetime:
        """The first moment after `now` that is a whole number of intervals from `anchor`."""
        interval = timedelta(seconds=self.seconds)
        return anchor + interval * (max(0, int((now - anchor) / interval)) + 1)

    def is_overdue(self, last: datetime | None, now: datetime) -> bool:
        return last is None or now - last >= timedelta(seconds=self.seconds)

    def __str__(self) -> str:
        return f"every {format_duration(self.seconds)}"


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """The times of a cron expression, in a time zone."""

    cron: str
    zone: str = "UTC"

    def next_due(self, _anchor: datetime, now: datetime) -> datetime:
        return next(CronSim(self.cron, now.astimezone(ZoneInfo(self.zone)))).astimezone(UTC)

    def is_overdue(self, last: datetime | None, now: datetime) -> bool:
        """Whether one of the times has passed since the last success."""
        before = next(CronSim(self.cron, now.astimezone(ZoneInfo(self.zone)), reverse=True))
        return last is None or last < before

    def __str__(self) -> str:
        return f"at '{self.cron}' ({self.zone})"


PollTiming = PollInterval | PollSchedule


def parse_cron(value: object) -> str:
    """Five fields. Raises `Refusal` for what is no cron expression, and for times that never come."""
    text = value.strip() if isinstance(value, str) else ""
    text = _NAMES.get(text.lower(), text)
    fields = text.split()
    if len(fields) != _FIELDS or not all(map(_FIELD.fullmatch, fields)):
        raise Refusal(f"{str(value)[:60]!r} is not a cron expression of five fields", _ADVICE)
    try:
        next(CronSim(" ".join(fields), datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise Refusal(f"{text[:60]!r} is not a cron expression ({error})", _ADVICE) from None
    return " ".join(fields)


def parse_zone(value: object) -> str:
    """The name of a time zone. Raises `Refusal`."""
    try:
        return ZoneInfo(value if isinstance(value, str) else "?").key
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise Refusal(
            f"{str(value)[:60]!r} is not a time zone", "write e.g. 'Europe/Berlin' or 'UTC'"
        ) from None
