"""Telling receivers while `up` runs: in a thread of that process, so no run waits for a receiver."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flows.reporting.notify.notifier import Notifier, my_turn
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flows.reporting.notify.notifier import Outcome
    from profiles.model.profile import Profile
    from registry_server.store.store import Store

_LOCAL_POLL: Final = 2.0  # seconds between two looks for new reports
_REMOTE_POLL: Final = 30.0  # the same in object storage, where a look costs requests
_LONGEST: Final = 60.0  # seconds without a look at the conditions, which time alone may change
_SHARE: Final = 20  # a look that took one second is repeated after as many, unless there is a new report
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 900.0  # seconds between two tries for one receiver


@dataclass(slots=True)
class Backoff:
    """When a receiver is tried again. Moments in seconds of a monotonic clock."""

    failures: int = 0
    due: float = 0.0
    problem: str = ""

    def failed(self, problem: str, now: float) -> None:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self.failures)
        self.failures += 1
        self.problem = problem
        self.due = now + pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads tries, keeps no secret


class NotifySchedule:
    """`environment`: as in `Notifier`. `say` gets a line when a receiver fails, and when it works again."""

    def __init__(
        self,
        store: Store,
        profile: Callable[[], Profile],
        say: Callable[[str], None],
        environment: Mapping[str, str],
    ) -> None:
        self._store, self._load, self._say, self._environment = store, profile, say, environment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        self._backoff: dict[str, Backoff] = {}
        self._version = ""
        self._look_due = 0.0
        self._problem = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for a message that is under way: it is in the store, and sent again."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(_LOCAL_POLL if self._store.is_local else _REMOTE_POLL):
            try:
                self.tick()
            except (MirrorflowError, OSError) as error:
                if str(error) != self._problem:
                    self._say(f"notifications: {error}")
                self._problem = str(error)
            else:
                self._problem = ""

    def tick(self) -> None:
        """Raises `StoreError`, and what loading the profile raises."""
        now, version = time.monotonic(), self._store.reports.version()
        retry = any(each.problem and now >= each.due for each in self._backoff.values())
        if version == self._version and now < self._look_due and not retry:
            return
        notifier = Notifier(self._load(), self._store, self._environment)
        names = {each.name for each in notifier.receivers}  # the profile may have fewer than before
        self._backoff = {name: each for name, each in self._backoff.items() if name in names}
        if not notifier.profile.notify:
            self._looked(version, now)
            return
        with my_turn(self._store, 0.0) as is_mine:
            if is_mine:
                messages = notifier.compose()
                self._looked(version, now)
                due = {name: each for name, each in messages.items() if self._is_due(name, now)}
                for outcome in notifier.deliver(due):
                    self._note(outcome)

    def _looked(self, version: str, began: float) -> None:
        self._version, now = version, time.monotonic()
        self._look_due = now + max(_LONGEST, _SHARE * (now - began))

    def _is_due(self, receiver: str, now: float) -> bool:
        return receiver not in self._backoff or now >= self._backoff[receiver].due

    def _note(self, outcome: Outcome) -> None:
        before = self._backoff.get(outcome.receiver)
        if not outcome.problem:
            self._look_due = 0.0  # more may have changed since the message was composed
            if self._backoff.pop(outcome.receiver, None) is not None:
                self._say(f"notify {outcome.receiver}: messages arrive again")
            return
        if before is None or before.problem != outcome.problem:
            self._say(f"{outcome.problem}; it is tried again")
        self._backoff.setdefault(outcome.receiver, Backoff()).failed(outcome.problem, time.monotonic())
