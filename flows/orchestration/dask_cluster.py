"""Steps of a run in the workers of a Dask cluster (`sync.engine: dask://…`).

The DAG, Prefect's tasks and the report stay in the process of the run. Only the bodies of the steps go to the
workers, by value: what a step takes and answers is small. (A task engine on Dask would set Prefect up anew
for each task run, which costs 160 ms of CPU.) Each worker process opens the context of a run once, and keeps
it until the run ends. The workers need this package and the store's file system; the profile comes with a
step.

Imports Dask: import it only where it is used.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from asyncio import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from distributed import Client, Event, Future, get_client
from distributed.scheduler import KilledWorker

from registry_server.oci.errors import MirrorflowError
from tasks.engines.steps import broken, run_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Output

    OpenContext = Callable[[threading.Event], AbstractContextManager[MirrorRun]]
    MakeOpener = Callable[[int], OpenContext]

_CONNECT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.5  # between two looks at the stop sign
_LOOKS: Final = 10  # of these, one also asks whether any worker is left
_ALONE_SECONDS: Final = 20.0  # in which a worker that has ended may be started again


class DaskUnavailable(MirrorflowError):
    """The cluster cannot be used, or has no worker (any more)."""


class DaskStepFailed(MirrorflowError):
    """A worker could not carry a step out, three times over."""


@contextmanager
def dask_workers(
    scheduler: str, run: MirrorRun, opener: MakeOpener
) -> Iterator[Callable[[str, Sequence[Any], Output[Any] | None], Output[Any]]]:
    """How an engine has a step carried out, as `run_step`. `scheduler` is `tcp://host:port`.

    `opener` makes, for the number of workers, what opens the context of the run in one of them (picklable).
    The workers share the limits of the registry entry. Their number is that at the beginning; no more than
    `reqConcurrent` of them get steps. Raises `DaskUnavailable`.
    """
    client = _connect(scheduler)
    try:
        workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
        if not workers:
            raise DaskUnavailable(f"the Dask scheduler at {scheduler} has no worker; start `dask worker`")
        chosen = workers[: run.entry.req_concurrent]
        cluster = _Cluster(
            client, scheduler, run, opener(len(chosen)), chosen if len(chosen) < len(workers) else None
        )
        try:
            yield cluster
        finally:
            cluster.close()
    finally:
        client.close()


def _connect(scheduler: str) -> Client:
    try:
        return Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False, name="mirrorflow")
    except (OSError, TimeoutError, ValueError) as error:
        raise DaskUnavailable(
            f"no Dask scheduler answers at {scheduler} (`sync.engine`): {type(error).__name__}; start it, or "
            "correct the address"
        ) from error


@dataclass(slots=True)
class _Cluster:
    client: Client
    scheduler: str
    run: MirrorRun
    opener: OpenContext
    workers: list[str] | None  # None: all, also those that come later in place of others
    key: str = field(default_factory=lambda: f"mirrorflow-{uuid4().hex}")
    told: bool = False  # the workers know that the run is to end
    lost: DaskUnavailable | None = None  # why no step can be carried out any more

    def __call__(self, step: str, values: Sequence[Any], before: Output[Any] | None) -> Output[Any]:
        """As `run_step`."""
        try:
            if self.lost:  # each further step would wait in vain
                raise self.lost
            return self._wait_for(self._submit(step, values, before))
        except MirrorflowError as error:  # also: the context of the run could not be opened
            return broken(step, values, error, before)
        except KilledWorker:
            lost = DaskStepFailed(f"{step}: every Dask worker that tried it ended; out of memory?")
            return broken(step, values, lost, before)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - of many kinds; what a step raises is none
            reason = (
                f"the Dask scheduler at {self.scheduler} does not answer any more: {type(error).__name__}"
            )
            self.lost = self.lost or DaskUnavailable(reason)
            return broken(step, values, self.lost, before)

    def _submit(self, step: str, values: Sequence[Any], before: Output[Any] | None) -> Future:
        return self.client.submit(
            _carry_out,
            self.key,
            self.opener,
            step,
            values,
            before,
            workers=self.workers,
            pure=False,
            key=f"{step}-{uuid4().hex}",
        )

    def _wait_for(self, future: Future) -> Output[Any]:
        """Raises `DaskUnavailable`: without a worker it would wait for ever."""
        alone = 0.0  # since when there is no worker
        # Not `result(timeout=…)`: Dask then breaks off the transfer of an answer that is on its way.
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        for look in range(sys.maxsize):
            if ended.wait(_POLL_SECONDS):
                answer: Output[Any] = future.result()
                return answer
            if self.run.stop.is_set():
                self._tell_to_stop()
            if look % _LOOKS == 0:
                alone = 0.0 if self._has_workers() else alone or time.monotonic()
            if self.lost or (alone and time.monotonic() - alone > _ALONE_SECONDS):
                break
        reason = (
            f"the Dask scheduler at {self.scheduler} has had no worker for {_ALONE_SECONDS:g} s; start some"
        )
        self.lost = self.lost or DaskUnavailable(reason)
        raise self.lost

    def _tell_to_stop(self) -> None:
        if not self.told:
            self.told = True
            with suppress(Exception):  # a scheduler that has gone takes its workers along
                Event(self.key, client=self.client).set()

    def _has_workers(self) -> bool:
        there = set(self.client.scheduler_info(n_workers=-1).get("workers", ()))
        return bool(there if self.workers is None else there & set(self.workers))

    def close(self) -> None:
        """Also the contexts in the workers. One that cannot be reached closes its own when it ends."""
        self._tell_to_stop()
        with suppress(Exception):
            self.client.run(_close, self.key, workers=self.workers, on_error="ignore")


# --- in the workers ---


@dataclass(slots=True)
class _Opened:
    context: AbstractContextManager[MirrorRun]
    run: MirrorRun


_LOCK: Final = threading.Lock()
_OPEN: Final[dict[str, _Opened]] = {}  # by the key of the run


def _carry_out(
    key: str, opener: OpenContext, step: str, values: Sequence[Any], before: Output[Any] | None
) -> Output[Any]:
    return run_step(_opened(key, opener).run, step, values, before)


def _opened(key: str, opener: OpenContext) -> _Opened:
    """The context of the run in this process. Raises what opening it raises, each time."""
    with _LOCK:
        if key not in _OPEN:
            stop = threading.Event()
            context = opener(stop)
            _OPEN[key] = _Opened(context, context.__enter__())
            threading.Thread(target=_follow, args=(key, stop, get_client()), daemon=True).start()
        return _OPEN[key]


def _follow(key: str, stop: threading.Event, client: Client) -> None:
    """Until the run is told to stop, or ends; the steps look at `stop` often, and it costs no request."""
    try:
        Event(key, client=client).wait()
    except Exception:  # noqa: BLE001 - the scheduler has gone: the steps have nobody to answer to
        logging.getLogger("mirrorflow").warning("the Dask scheduler has gone; steps end")
    stop.set()


def _close(key: str) -> None:
    with _LOCK:
        opened = _OPEN.pop(key, None)
    if opened is not None:
        opened.context.__exit__(None, None, None)
