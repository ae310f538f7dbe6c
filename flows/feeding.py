"""From misses to task runs: an open flow run takes the work of many misses, fed through a queue.

To create a flow run for each miss does not scale, and a client never waits for Prefect: work that no run has
begun with within moments is done without one (measured: an open run begins within 3 to 32 ms).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tasks.on_demand.work import do

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State

    from tasks.on_demand.work import Work

log = logging.getLogger("mirrorflow.on_demand")

PATIENCE = 0.2  # seconds that work waits for a run to take it
IDLE = 120.0  # seconds without work after which a run is closed
MOST_TASK_RUNS = 200  # a run with thousands cannot be read
_AGAIN = 30.0  # seconds until a run is opened again after that failed
_LOOK = 0.5
_END = 5.0  # seconds that the end of a run may take when the process ends


@dataclass(slots=True)
class _Item:
    """Work that exactly one side takes: a flow run, or who does it without."""

    work: Work
    deadline: float
    _taken: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        return self._taken.acquire(blocking=False)


@dataclass(slots=True)
class Feed:
    """What one flow run is fed with. `closed` under the executor's lock: nothing is put any more."""

    items: queue.SimpleQueue[_Item] = field(default_factory=queue.SimpleQueue)
    opened: bool = False
    closed: bool = False


_feeds: dict[str, tuple[Feed, FeedExecutor]] = {}


class FeedExecutor:
    """Gives work to an open flow run, opens one when there is none, and does without when that fails.

    `open_run(key)` calls the flow, and returns when it has ended; it may raise anything.
    """

    def __init__(self, open_run: Callable[[str], object], *, idle: float = IDLE) -> None:
        self._open_run = open_run
        self.idle = idle
        self._lock = threading.Lock()
        self._feed: Feed | None = None
        self._not_before = 0.0
        self._waiting: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._direct = ThreadPoolExecutor(64, thread_name_prefix="on-demand")
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []
        threading.Thread(target=self._watch, name="on-demand-watch", daemon=True).start()

    def submit(self, work: Work) -> None:
        item = _Item(work, time.monotonic() + PATIENCE)
        with self._lock:
            feed = self._current()
            if feed is not None:
                feed.items.put(item)
                self._waiting.put(item)
                return
        self._do(item)

    def close(self) -> None:
        """No more work; open runs are ended, if Prefect lets them in a few seconds."""
        self.stopping.set()
        self._waiting.put(None)
        self._direct.shutdown(wait=False, cancel_futures=True)
        for thread in self.threads:
            thread.join(_END)

    @property
    def is_open(self) -> bool:
        """Whether a flow run takes work now."""
        feed = self._feed
        return feed is not None and feed.opened

    def close_feed(self, feed: Feed) -> None:
        """Nothing more comes through it: the next work opens another run."""
        with self._lock:
            feed.closed = True
            if self._feed is feed:
                self._feed = None

    def _current(self) -> Feed | None:
        """The feed of a run that is open or about to be; the lock is held."""
        if self._feed is None and time.monotonic() >= self._not_before and not self.stopping.is_set():
            self._feed = Feed()
            thread = threading.Thread(target=self._run, args=[self._feed], name="on-demand-run", daemon=True)
            self.threads = [each for each in self.threads if each.is_alive()] + [thread]
            thread.start()
        return self._feed

    def _run(self, feed: Feed) -> None:
        key = uuid4().hex
        _feeds[key] = feed, self
        try:
            self._open_run(key)
        except BaseException as error:  # noqa: BLE001 - whatever Prefect raises: work goes on without it
            log.warning("misses are served without a flow run: %s", str(error) or type(error).__name__)
            if not feed.opened:
                self._not_before = time.monotonic() + _AGAIN
        finally:
            del _feeds[key]
            self.close_feed(feed)

    def _watch(self) -> None:
        """Work that no run has taken in time is done without one. Deadlines come in order."""
        while (item := self._waiting.get()) is not None:
            time.sleep(max(0.0, item.deadline - time.monotonic()))
            self._do(item)

    def _do(self, item: _Item) -> None:
        if item.claim() and not self.stopping.is_set():
            self._direct.submit(do, item.work)


def consume(_profile: str, key: str) -> State[None]:
    """The body of the flow: a chain of task runs for each piece of work."""
    from prefect.futures import wait
    from prefect.states import Completed, Failed

    if key not in _feeds:
        return Failed(message="nothing to do: only the receiver of a running `mirrorflow up` feeds this flow")
    feed, executor = _feeds[key]
    futures: list[Any] = []
    images = set[str]()
    feed.opened = True
    last = time.monotonic()
    while len(futures) < MOST_TASK_RUNS and not executor.stopping.is_set():
        try:
            item = feed.items.get(timeout=_LOOK)
        except queue.Empty:
            if time.monotonic() - last > executor.idle:
                break
            continue
        last = time.monotonic()
        _begin(item, futures, images)
    executor.close_feed(feed)
    while not feed.items.empty():
        _begin(feed.items.get(), futures, images)
    wait(futures)
    return Completed(message=f"{len(images)} image{'s' * (len(images) != 1)} on demand")


def _begin(item: _Item, futures: list[Any], images: set[str]) -> None:
    if item.claim():
        futures += _chain(item.work)
        images.add(item.work.label)


def _chain(work: Work) -> list[Any]:
    """A task run for each step, each after the one before it, whatever happened to that."""
    from prefect import allow_failure
    from prefect.utilities.annotations import quote

    from tasks.on_demand.step_task import run_step
    from tasks.steps import retry_options

    options = retry_options(work.run)
    chain: list[Any] = []
    for step in work.steps:
        named: Any = run_step.with_options(
            name=step.name, task_run_name=f"{step.name} {work.label}", **options
        )
        before: Any = [allow_failure(chain[-1])] if chain else None
        chain.append(named.submit(quote(step), wait_for=before))
    return chain
