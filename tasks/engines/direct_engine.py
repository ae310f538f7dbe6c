"""Steps on threads of this process, without Prefect."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.engines.steps import broken
from tasks.run.errors import Unexpected, is_retryable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from profiles.model.registry_entry import RegistryEntry
    from tasks.context.mirror_run import MirrorRun
    from tasks.engines.dag import Handle
    from tasks.run.values import Output

    Call = Callable[[str, Sequence[Any], Output[Any] | None], Output[Any]]

# A step that waits for its retry sleeps in its thread. What bounds the work is the entry's reqConcurrent.
_THREADS = 128


@dataclass(slots=True, eq=False)
class _Handle:
    future: Future[Output[Any]] = field(default_factory=Future)

    def output(self) -> Output[Any]:
        return self.future.result()


@dataclass(slots=True)
class DirectEngine:
    """`call` runs a step by its name: here, or in another process. `submit` and `look` as in `dag.Engine`."""

    run: MirrorRun
    call: Call
    threads: ThreadPoolExecutor

    def submit(
        self,
        step: str,
        label: str,  # noqa: ARG002 - for engines that show it
        *inputs: Any,
        after: Sequence[Handle] = (),  # noqa: ARG002 - they have ended
        known: Output[Any] | None = None,
        done: Callable[[Handle], None],
    ) -> Handle:
        return self._start(step, inputs, done, known=known, delays=retry_delays(self.run.entry))

    def look(self, step: str, *inputs: Any, done: Callable[[Handle], None]) -> Handle:
        return self._start(step, inputs, done)

    def _start(
        self,
        step: str,
        inputs: Sequence[Any],
        done: Callable[[Handle], None],
        *,
        known: Output[Any] | None = None,
        delays: Sequence[float] = (),
    ) -> Handle:
        handle, values = _Handle(), [value_of(each) for each in inputs]
        handle.future.add_done_callback(lambda _: done(handle))
        self.threads.submit(self._carry_out, handle, step, values, known, delays)
        return handle

    def _carry_out(
        self,
        handle: _Handle,
        step: str,
        values: Sequence[Any],
        known: Output[Any] | None,
        delays: Sequence[float],
    ) -> None:
        output = known
        try:
            output = known or self.call(step, values, None)
            for delay in delays:
                if output.error is None or not is_retryable(output.error) or self.run.stop.wait(delay):
                    break
                output = self.call(step, values, output)
        except Exception as error:  # noqa: BLE001 - a process that died, or a bug: the run goes on
            output = broken(step, values, Unexpected(error), output)
        handle.future.set_result(output)


def value_of(given: Any) -> Any:
    """The plain value of an input: what a step answered, or a list of that, or the input itself."""
    if isinstance(given, list):
        return [value for each in given if (value := value_of(each)) is not None]
    return given.output().value if hasattr(given, "output") else given


def retry_delays(entry: RegistryEntry) -> list[float]:
    """The seconds before each retry: `retryDelay` each time, or doubling up to `maxRetryDelay`."""
    delay, most = entry.retry_delay or 0.0, entry.max_retry_delay
    if most is None or most <= delay:
        return [delay] * entry.max_retries
    return [min(delay * 2**attempt, most) for attempt in range(entry.max_retries)]


@contextmanager
def direct_engine(run: MirrorRun, call: Call) -> Iterator[DirectEngine]:
    """Its threads end with the block."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="step") as threads:
        yield DirectEngine(run, call, threads)
