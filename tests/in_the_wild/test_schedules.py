"""`schedule`: cron expressions as crontab(5), regsync and Harbor have them, in a time zone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from profiles.errors import ProfileInvalid
from profiles.values.poll_timing import PollSchedule
from tests.profiles.support import load, problems, warnings

if TYPE_CHECKING:
    from profiles.values.poll_timing import PollTiming


def text(keys: str, content: str = "content: [{prefix: a/b}], ") -> str:
    return f"storage: {{rootDirectory: /s}}\nsync: {{registries: [{{urls: [https://r], {content}{keys}}}]}}\n"


def timing(keys: str) -> PollTiming | None:
    return load(text(keys)).profile.sync.registries[0].timing


@pytest.mark.parametrize(
    ("cron", "now", "due"),
    [
        ("30 3 * * *", "2026-11-30T03:29:59+00:00", "2026-11-30T03:30:00+00:00"),
        ("30 3 * * *", "2026-11-30T03:30:00+00:00", "2026-12-01T03:30:00+00:00"),  # this one is being started
        ("*/15 8-17 * * mon-fri", "2026-11-28T12:00:00+00:00", "2026-11-30T08:00:00+00:00"),
        ("0 0 1,15 * *", "2026-11-30T00:00:00+00:00", "2026-12-01T00:00:00+00:00"),
        ("0 0 * * 7", "2026-11-30T00:00:00+00:00", "2026-12-06T00:00:00+00:00"),  # 7 is Sunday as well
        ("0 0 29 feb *", "2026-11-30T00:00:00+00:00", "2028-02-29T00:00:00+00:00"),
        ("@daily", "2026-11-30T03:00:00+00:00", "2026-12-01T00:00:00+00:00"),  # robfig/cron, as in regsync
    ],
)
def test_a_schedule_says_when_the_next_poll_is(cron: str, now: str, due: str) -> None:
    found = timing(f"schedule: '{cron}'")
    moment = datetime.fromisoformat(now)
    assert found is not None
    assert found.next_due(moment, moment) == datetime.fromisoformat(due)


def test_a_schedule_follows_its_time_zone_into_summer() -> None:
    found = timing("schedule: '30 3 * * *', timeZone: Europe/Berlin")
    winter, summer = datetime.fromisoformat("2026-03-27T12:00Z"), datetime.fromisoformat("2026-03-29T12:00Z")
    assert found == PollSchedule("30 3 * * *", "Europe/Berlin")
    assert [found.next_due(now, now).hour for now in (winter, summer)] == [2, 1]


@pytest.mark.parametrize(
    ("last", "overdue"),
    [
        pytest.param(None, True, id="never"),
        pytest.param("2026-11-30T03:30:01+00:00", False, id="since its last time"),
        pytest.param("2026-11-30T03:29:00+00:00", True, id="before its last time"),
    ],
)
def test_a_poll_is_overdue_when_its_time_has_passed(last: str | None, *, overdue: bool) -> None:
    now = datetime.fromisoformat("2026-11-30T12:00:00+00:00")
    success = datetime.fromisoformat(last) if last else None
    assert PollSchedule("30 3 * * *").is_overdue(success, now) is overdue


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("schedule: '0 30 3 * * *'", "'0 30 3 * * *' is not a cron expression of five fields; write minute"),
        ("schedule: '61 3 * * *'", "'61 3 * * *' is not a cron expression (Bad minute); write minute"),
        ("schedule: '0 0 30 2 *'", "'0 0 30 2 *' is not a cron expression (Bad day-of-month)"),
        ("schedule: '0 0 L * *#'", "is not a cron expression of five fields"),
        ("schedule: 6h", "'6h' is not a cron expression of five fields"),
        ("schedule: 5", "'5' is not a cron expression of five fields"),
        ("schedule: '0 3 * * *', timeZone: Mars/Olympus", "'Mars/Olympus' is not a time zone; write e.g."),
        ("schedule: '0 3 * * *', timeZone: ../../etc/passwd", "'../../etc/passwd' is not a time zone"),
        (
            "schedule: '0 3 * * *', pollInterval: 6h",
            "schedule and pollInterval both say when to poll; drop one",
        ),
        ("pollInterval: 6h, timeZone: UTC", "timeZone is that of schedule, which is missing"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused(keys: str, said: str) -> None:
    [problem] = problems(text(keys))
    assert said in problem


def test_a_schedule_without_content_is_warned_about() -> None:
    [warning] = warnings(text("schedule: '0 3 * * *'", content=""))
    assert "schedule: 'r' has no content: nothing is polled" in warning


def test_no_expression_takes_long() -> None:
    """The library looks at fifty years at most."""
    with pytest.raises(ProfileInvalid):
        timing("schedule: '0 0 31 2,4,6,9,11 *'")
