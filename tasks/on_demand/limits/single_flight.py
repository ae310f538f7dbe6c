"""Of equal questions one is sent to the upstream, and all callers get its answer."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.on_demand.answers import Miss
from tasks.on_demand.work import Answering, Work, WorkStep
from tasks.upstream.connection.wire import on_behalf_of
from tasks.upstream.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from registry_server.oci.errors import MirrorflowError
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.answers import TagPage
    from tasks.on_demand.limits.bulkhead import Bulkhead, Turn
    from tasks.on_demand.routing import Candidate
    from tasks.on_demand.work import Executor

T = TypeVar("T")


class SingleFlight:
    """Gives questions to the executor, each as work of one step. Thread-safe."""

    def __init__(self, executor: Executor, bulkhead: Bulkhead) -> None:
        self._executor, self._bulkhead = executor, bulkhead
        self._running: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def is_asked(self, question: Miss) -> bool:
        """Whether a request waits for the answer already."""
        return question in self._running

    def once(
        self,
        question: Miss | TagPage,
        run: MirrorRun,
        step: str,
        body: Callable[[], T],
        *,
        of: Sequence[Candidate],
        expected: tuple[type[MirrorflowError], ...] = (),
    ) -> Future[T]:
        """The answer that somebody waits for already, or the first outcome of `body`, which asks `of` these.

        A question that all of them would refuse is answered with that, and costs no thread.
        """
        # Of lists the whole is asked for, whatever the page.
        key = question if isinstance(question, Miss) else ("tags", question.repository)
        with self._lock:
            running = self._running.get(key)
            if running is not None:
                return running
            if refusal := self._bulkhead.refusal(candidate.entry for candidate in of):
                refused = Future[T]()
                refused.set_exception(refusal)
                return refused
            first = self._running[key] = Future[T]()
        first.add_done_callback(lambda _: self._running.pop(key, None))

        def start(turn: Turn | None) -> None:
            asking = Answering(lambda: _asked(body, question, turn), first, expected)
            try:
                self._executor.submit(Work(run, str(question), (WorkStep(step, asking),), is_question=True))
            except RuntimeError:  # it has ended, while questions waited for their turn
                first.set_exception(Stopped())

        self._bulkhead.begin([candidate.entry for candidate in of], start, first.set_exception)
        return first


def _asked(body: Callable[[], T], question: Miss | TagPage, turn: Turn | None) -> T:
    with on_behalf_of(question.via), turn.held() if turn is not None else nullcontext():
        return body()
