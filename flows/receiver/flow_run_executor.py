"""Work on demand: done at once, and shown as task runs of an open flow run, which is fed through a queue.

Prefect is nowhere between a client and its answer. To create a flow run for each miss does not scale; even in
an open one a task run costs some 8 ms of CPU, and 30 misses at once as many times five. So each step is done
by a thread of ours, the moment that it can be; the task run that shows it joins it while it goes on, or finds
it done. What fails is tried again by Prefect, with the steps behind it, as the entry says.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from registry_server.counted import counted
from registry_server.oci.errors import MirrorflowError
from tasks.on_demand.work import WorkStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State

    from tasks.on_demand.work import Work

log = logging.getLogger("mirrorflow.on_demand")

SHOW_TIMEOUT = 3.0  # seconds that work waits for a run to show it
IDLE = 120.0  # seconds without work after which a run is closed
MOST_TASK_RUNS = 200  # a run with thousands cannot be read
_REOPEN_DELAY = 30.0  # seconds until a run is opened again after that failed
_QUEUE_POLL = 0.5
# Threads for questions to all upstreams; bulkhead.py bounds those to one. They are started as
# they are needed.
_REQUEST_THREADS = 4096
_COMPLETION_THREADS = 64  # threads that complete images of one upstream: one that hangs holds no others
_YIELD_SECONDS = 0.3  # seconds that background work waits while clients wait for an answer
_YIELD_POLL = 0.02
_END = 5.0  # seconds that the end of a run may take when the process ends


@dataclass(slots=True)
class _OnceStep:
    """A step that is done once: by us, or by the task run that shows it, whoever comes first."""

    step: WorkStep
    outcome: Future[object] = field(default_factory=Future)
    _begun: threading.Lock = field(default_factory=threading.Lock)
    _shown: bool = False

    def begin(self) -> bool:
        return self._begun.acquire(blocking=False)

    def do(self) -> BaseException | None:
        """The error, if it is one."""
        try:
            self.outcome.set_result(self.step.body())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is shown
            self.outcome.set_exception(error)
            return error
        return None

    def show(self) -> object:
        """The body of the task: first what came of the step, then, when Prefect tries it again, the step."""
        if self._shown:
            return self.step.body()
        self._shown = True
        if self.begin():
            self.do()
        return self.outcome.result()


@dataclass(slots=True)
class _QueuedWork:
    """Work, and whether a flow run shows it: then what fails, and all behind that, is the run's to do."""

    work: Work
    steps: tuple[_OnceStep, ...]
    deadline: float
    _decided: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_shown: bool = False

    def decide(self, *, shown: bool) -> bool:
        """Whether nobody has decided before."""
        with self._lock:
            if self._decided.is_set():
                return False
            self._is_shown = shown
            self._decided.set()
            return True

    def is_shown(self) -> bool:
        """Waits until it is decided."""
        self._decided.wait()
        return self._is_shown


@dataclass(slots=True)
class Feed:
    """What one flow run is fed with. `closed` under the executor's lock: nothing is put any more."""

    items: queue.SimpleQueue[_QueuedWork] = field(default_factory=queue.SimpleQueue)
    opened: bool = False
    closed: bool = False


_feeds: dict[str, tuple[Feed, FlowRunExecutor]] = {}


class FlowRunExecutor:
    """Does work, and gives it to an open flow run to be shown; opens one when there is none.

    `open_run(key)` calls the flow, and returns when it has ended; it may raise anything. None: nothing is
    shown. `name` is the first part of the key.
    """

    def __init__(
        self, open_run: Callable[[str], object] | None, *, name: str = "", idle: float = IDLE
    ) -> None:
        self._open_run, self._name = open_run, name
        self.idle = idle
        self._asked: dict[int, float] = {}  # questions that wait for upstream, and since when
        self._lock = threading.Lock()
        self._feed: Feed | None = None
        self._not_before = 0.0
        self._waiting: queue.SimpleQueue[_QueuedWork | None] = queue.SimpleQueue()
        self._questions = ThreadPoolExecutor(_REQUEST_THREADS, thread_name_prefix="question")
        self._completing: dict[str, ThreadPoolExecutor] = {}  # by the name of the registry entry
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []
        threading.Thread(target=self._watch, name="on-demand-watch", daemon=True).start()

    def submit(self, work: Work) -> None:
        steps = tuple(_OnceStep(step) for step in work.steps)
        item = _QueuedWork(work, steps, time.monotonic() + SHOW_TIMEOUT)
        if work.is_question:
            self._asked[id(item)] = time.monotonic()
            self._questions.submit(self._do, item)
        else:
            self._threads_of(work.run.entry.name).submit(self._complete, item)
        with self._lock:
            feed = self._current()
            if feed is not None:
                feed.items.put(item)
                self._waiting.put(item)
                return
        item.decide(shown=False)

    def close(self) -> None:
        """No more work; open runs are ended, if Prefect lets them in a few seconds."""
        self.stopping.set()
        self._waiting.put(None)
        with self._lock:
            pools = [self._questions, *self._completing.values()]
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for thread in self.threads:
            thread.join(_END)

    def _threads_of(self, entry: str) -> ThreadPoolExecutor:
        with self._lock:
            if entry not in self._completing:
                self._completing[entry] = ThreadPoolExecutor(
                    _COMPLETION_THREADS, thread_name_prefix="on-demand"
                )
            return self._completing[entry]

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
        open_run = self._open_run
        may_open = open_run is not None and time.monotonic() >= self._not_before
        if self._feed is None and may_open and not self.stopping.is_set():
            self._feed = Feed()
            work = [self._feed, open_run]
            thread = threading.Thread(target=self._run, args=work, name="on-demand-run", daemon=True)
            self.threads = [each for each in self.threads if each.is_alive()] + [thread]
            thread.start()
        return self._feed

    def _run(self, feed: Feed, open_run: Callable[[str], object]) -> None:
        key = f"{self._name}/{uuid4().hex}"
        _feeds[key] = feed, self
        try:
            open_run(key)
        except BaseException as error:  # noqa: BLE001 - whatever Prefect raises: work goes on without it
            log.warning("misses are served without a flow run: %s", str(error) or type(error).__name__)
            if not feed.opened:
                self._not_before = time.monotonic() + _REOPEN_DELAY
        finally:
            del _feeds[key]
            self.close_feed(feed)

    def _watch(self) -> None:
        """Work that no run has taken in time is not shown. Deadlines come in order."""
        while (item := self._waiting.get()) is not None:
            self.stopping.wait(max(0.0, item.deadline - time.monotonic()))
            item.decide(shown=False)

    def yield_to_requests(self) -> None:
        """Who waits for an answer comes first, for a moment: one interpreter does that and what is behind."""
        until = time.monotonic() + _YIELD_SECONDS
        while time.monotonic() < until and not self.stopping.is_set():
            young = time.monotonic() - _YIELD_SECONDS
            if not any(since > young for since in list(self._asked.values())):
                return
            time.sleep(_YIELD_POLL)

    def _complete(self, item: _QueuedWork) -> None:
        self.yield_to_requests()
        self._do(item)

    def _do(self, item: _QueuedWork) -> None:
        """All steps, one after the other, unless one fails that a run tries again."""
        for done in item.steps:
            ours = not self.stopping.is_set() and done.begin()
            error = done.do() if ours else None
            self._asked.pop(id(item), None)
            if not ours:
                return
            if error is not None and done is not item.steps[-1] and item.is_shown():
                return
            _log_failure(item.work, done.step, error)


def _log_failure(work: Work, step: WorkStep, error: BaseException | None) -> None:
    if isinstance(error, MirrorflowError):
        log.error("%s: %s: %s", work.label, step.name, error)
    elif error is not None:
        log.error("%s: %s", work.label, step.name, exc_info=error)


def consume(_profile: str, key: str) -> State[None]:
    """The body of the flow: a chain of task runs for each piece of work."""
    from prefect.futures import wait
    from prefect.states import Completed, Failed

    if key not in _feeds:
        return Failed(
            message="nothing to do: only the receiver of a running `mirrorflow up` gives work to this flow"
        )
    feed, executor = _feeds[key]
    futures: list[Any] = []
    images = set[str]()
    feed.opened = True
    last = time.monotonic()
    while len(futures) < MOST_TASK_RUNS and not executor.stopping.is_set():
        try:
            item = feed.items.get(timeout=_QUEUE_POLL)
        except queue.Empty:
            if time.monotonic() - last > executor.idle:
                break
            continue
        last = time.monotonic()
        executor.yield_to_requests()
        _begin(item, futures, images)
    executor.close_feed(feed)
    while not feed.items.empty():
        _begin(feed.items.get(), futures, images)
    wait(futures)
    return Completed(message=f"{counted(len(images), 'image')} on demand")


def _begin(item: _QueuedWork, futures: list[Any], images: set[str]) -> None:
    if item.decide(shown=True):
        futures += _chain(item)
        images.add(item.work.label)


def _chain(item: _QueuedWork) -> list[Any]:
    """A task run for each step, each after the one before it, whatever happened to that."""
    from prefect import allow_failure
    from prefect.utilities.annotations import quote

    from tasks.engines.prefect_tasks import retry_options, run_step

    options = retry_options(item.work.run)
    chain: list[Any] = []
    for done in item.steps:
        name = done.step.name
        named: Any = run_step.with_options(name=name, task_run_name=f"{name} {item.work.label}", **options)
        before: Any = [allow_failure(chain[-1])] if chain else None
        chain.append(named.submit(quote(WorkStep(name, done.show)), wait_for=before))
    return chain
