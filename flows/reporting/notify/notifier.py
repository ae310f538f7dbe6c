"""Telling receivers what has changed: a look at the store, a message for each, and its delivery.

Several processes may do so over one store. One at a time does, by a role in the store.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from flows.reporting.notify.conditions import Condition
from flows.reporting.notify.delivery import post
from flows.reporting.notify.formats import body_of
from flows.reporting.notify.looking import look_at, with_moved
from flows.reporting.notify.prefect_events import emit
from flows.reporting.notify.told import Change, Message, Phase, Told, compare, load_told, save_told, wants
from profiles.model.notify import NotifyEvent, NotifyFormat
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import StoreLocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from flows.reporting.notify.conditions import Look
    from profiles.model.notify import NotifyReceiver
    from profiles.model.profile import Profile
    from registry_server.store.store import Store

ROLE: Final = "notify"
_PATIENCE: Final = 20.0  # seconds that a process waits for another one that is telling
_PAUSES: Final = (0.0, 1.0, 3.0)  # seconds before the tries of a command
_AT_ONCE: Final = 8  # receivers


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one receiver: the message that it got or should have got, and why it did not."""

    receiver: str
    message: Message | None = None
    problem: str = ""


@dataclass(slots=True)
class Notifier:
    """`environment`: variables with URLs, secrets and proxies, and those of the Prefect server."""

    profile: Profile
    store: Store
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def source(self) -> str:
        """What messages call this mirror: where clients find it, else the id of its store."""
        return self.profile.http.external_url or f"urn:uuid:{self.store.uuid}"

    @property
    def receivers(self) -> list[NotifyReceiver]:
        """Those that can be reached from here: events need a Prefect server."""
        has_prefect = bool(self.environment.get("PREFECT_API_URL"))
        return [
            each for each in self.profile.notify if has_prefect or each.format is not NotifyFormat.PREFECT
        ]

    def compose(self) -> dict[str, Message]:
        """By receiver, what is to be sent, written down in the store. Raises `StoreError`."""
        receivers = self.receivers
        look = look_at(self.profile, self.store, time.time()) if receivers else None
        found = {}
        for receiver in receivers:
            assert look is not None, "there are receivers"
            if (told := self._next(receiver, look)).pending is not None:
                found[receiver.name] = told.pending
        return found

    def preview(self) -> dict[str, Message]:
        """What `compose` would give, with nothing written."""
        look = look_at(self.profile, self.store, time.time())
        states = {each.name: self._compared(each, look)[1] for each in self.receivers}
        return {name: told.pending for name, told in states.items() if told.pending is not None}

    def _next(self, receiver: NotifyReceiver, look: Look) -> Told:
        before, after = self._compared(receiver, look)
        if after != before:
            save_told(self.store, receiver.name, after)
        return after

    def _compared(self, receiver: NotifyReceiver, look: Look) -> tuple[Told | None, Told]:
        before = load_told(self.store, receiver.name)
        told = before or Told()
        if NotifyEvent.TAG_MOVED in receiver.events:
            look = with_moved(look, self.store, told)
        entries = self.profile.entry_names()
        return before, compare(told, look, lambda each: wants(receiver, each, entries), time.time())

    def deliver(self, messages: Mapping[str, Message], pauses: Sequence[float] = (0.0,)) -> list[Outcome]:
        """Send them, each receiver by itself; `pauses` in seconds before each try. Never raises for one."""
        wanted = [each for each in self.receivers if each.name in messages]
        if not wanted:
            return []
        with ThreadPoolExecutor(min(_AT_ONCE, len(wanted))) as threads:
            return list(threads.map(lambda each: self._deliver(each, messages[each.name], pauses), wanted))

    def _deliver(self, receiver: NotifyReceiver, message: Message, pauses: Sequence[float]) -> Outcome:
        problem = ""
        for pause in pauses:
            time.sleep(pause)
            try:
                self.send(receiver, message)
                self._arrived(receiver, message)
            except MirrorflowError as error:
                problem = str(error)
                if not error.retryable:
                    break
            else:
                return Outcome(receiver.name, message)
        return Outcome(receiver.name, message, problem)

    def send(self, receiver: NotifyReceiver, message: Message) -> None:
        """One try. Raises `NotDelivered`, `ReceiverUnusable`, `SecretUnusable`."""
        if receiver.format is NotifyFormat.PREFECT:
            emit(message, self.source, timeout=receiver.timeout, environment=self.environment)
            return
        content = body_of(receiver.format, message, self.source)
        post(receiver, message, content, now=time.time(), environment=self.environment)

    def _arrived(self, receiver: NotifyReceiver, message: Message) -> None:
        told = load_told(self.store, receiver.name)
        if told is not None and told.pending is not None and told.pending.id == message.id:
            save_told(self.store, receiver.name, replace(told, pending=None))


def tell(
    notifier: Notifier,
    *,
    say: Callable[[str], None],
    pauses: Sequence[float] = _PAUSES,
    patience: float = _PATIENCE,
) -> bool:
    """Tell everybody what there is to tell; whether nothing is left over.

    For a command, and for the process of a run. What is not delivered now is with the next call. `pauses`:
    seconds before each try; `patience`: how long to wait for another process that is telling, in seconds.
    Raises `StoreError`.
    """
    if not notifier.receivers:
        return True
    with my_turn(notifier.store, patience) as is_mine:
        if not is_mine:
            return True  # whoever is telling for so long sees all that we see
        problems: list[str] = []
        for _ in range(2):  # what has changed since a message that had not arrived
            problems += [
                each.problem for each in notifier.deliver(notifier.compose(), pauses) if each.problem
            ]
            if problems:
                break
    for problem in problems:
        say(f"{problem}; the message is kept for the next try")
    return not problems


@contextmanager
def my_turn(store: Store, patience: float) -> Iterator[bool]:
    """Whether this process may tell: False where another one did for all of `patience` seconds."""
    deadline = time.monotonic() + patience
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(store.claim(ROLE))
            except StoreLocked:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(0.2)
            else:
                break
        yield True


def trial_message(now: float) -> Message:
    """What `notify --test` sends. `now` in Unix seconds."""
    condition = Condition(
        NotifyEvent.RUN_FAILED, "test", "this is a test, sent by `mirrorflow notify --test`"
    )
    changes = (Change(Phase.BEGAN, condition, now, now), Change(Phase.ENDED, condition, now, now))
    return Message(str(uuid4()), now, changes)
