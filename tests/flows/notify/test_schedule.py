"""Telling while `up` runs: in a thread, with pauses for a receiver that fails, across restarts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from flows.entries import open_store
from flows.reporting.notify.schedule import Backoff, NotifySchedule
from profiles.loader import load_profile
from registry_server.oci.errors import MirrorflowError
from tests.flows.notify.telling import changes
from tests.support_misbehaving import answers, well_behaved

if TYPE_CHECKING:
    from profiles.model.profile import Profile
    from tests.flows.notify.telling import Telling


@pytest.fixture
def said() -> list[str]:
    return []


def schedule(telling: Telling, said: list[str]) -> NotifySchedule:
    def profile() -> Profile:
        return load_profile(telling.path).profile

    return NotifySchedule(open_store(profile()), profile, said.append, {})


def fail(telling: Telling) -> None:
    telling.upstream.on("/v2/app/tags/list", answers(500))
    telling.run_only()


def bodies(telling: Telling) -> list[dict[str, object]]:
    import json

    return [json.loads(each.body) for each in telling.hook.seen]


def test_the_thread_tells_of_a_run_by_another_process(telling: Telling, said: list[str]) -> None:
    telling_thread = schedule(telling, said)
    telling_thread.start()
    fail(telling)
    deadline = time.monotonic() + 30
    while not telling.hook.seen and time.monotonic() < deadline:
        time.sleep(0.05)
    telling_thread.stop()
    assert changes(bodies(telling)) == [("runFailed", "began", "up")]
    assert said == []


def test_a_look_that_finds_nothing_new_sends_nothing(telling: Telling, said: list[str]) -> None:
    fail(telling)
    ticking = schedule(telling, said)
    for _ in range(5):
        ticking.tick()
    assert len(telling.hook.seen) == 1


def test_a_restart_tells_nothing_twice(telling: Telling, said: list[str]) -> None:
    fail(telling)
    schedule(telling, said).tick()
    schedule(telling, said).tick()
    assert len(telling.hook.seen) == 1


def test_a_receiver_that_fails_is_spared_for_a_while_and_complained_of_once(
    telling: Telling, said: list[str]
) -> None:
    telling.hook.on("/hook", answers(500), answers(500), answers(204))
    fail(telling)
    ticking = schedule(telling, said)
    ticking.tick()
    ticking.tick()
    assert len(telling.hook.seen) == 1, "it is not due yet"
    for expected in (2, 3):
        ticking._backoff["ops"].due = 0.0
        ticking.tick()
        assert len(telling.hook.seen) == expected
    assert len({each["id"] for each in bodies(telling)}) == 1
    assert said == [
        f"notify ops: http://{telling.hook.host} answered with status 500; it is tried again",
        "notify ops: messages arrive again",
    ]


def test_what_changed_while_a_message_was_pending_follows_it(telling: Telling, said: list[str]) -> None:
    telling.hook.on("/hook", answers(500), answers(204))
    fail(telling)
    ticking = schedule(telling, said)
    ticking.tick()
    telling.upstream.on("/v2/app/tags/list", well_behaved)
    telling.run_only()
    ticking._backoff["ops"].due = 0.0
    ticking.tick()
    ticking.tick()
    phases = [each[1] for each in changes(bodies(telling))]
    assert phases == ["began", "began", "ended"], "the first try, the second, and what came then"


def test_a_profile_that_is_being_edited_is_no_end_of_telling(telling: Telling, said: list[str]) -> None:
    ticking = schedule(telling, said)
    fail(telling)
    ticking._load = lambda: load_profile(telling.folder / "none.yaml").profile
    with pytest.raises(MirrorflowError):
        ticking.tick()
    ticking._load = lambda: load_profile(telling.path).profile
    ticking.tick()
    assert len(telling.hook.seen) == 1


def test_a_failing_receiver_that_left_the_profile_is_forgotten(telling: Telling, said: list[str]) -> None:
    """Else each look for new reports would be one at the whole store."""
    telling.hook.on("/hook", answers(500))
    fail(telling)
    ticking = schedule(telling, said)
    ticking.tick()
    ticking._backoff["ops"].due = 0.0
    telling.notify = [telling.receiver(name="others")]
    loads: list[Profile] = []

    def load() -> Profile:
        loads.append(load_profile(telling.path).profile)
        return loads[-1]

    ticking._load = load
    telling.hook.on("/hook", answers(204))
    for _ in range(5):
        ticking.tick()
    assert len(loads) == 2, "one that tells, and one after it"


def test_pauses_grow_to_a_quarter_of_an_hour() -> None:
    backoff, pauses = Backoff(), []
    for _ in range(12):
        backoff.failed("500", now=0.0)
        pauses.append(backoff.due)
    assert 4 <= pauses[0] <= 6
    assert all(720 <= pause <= 1080 for pause in pauses[8:])
