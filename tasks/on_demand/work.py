"""Work on demand as a chain of named steps: whoever executes it decides whether it is seen in Prefect."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from registry_server.oci.errors import MirrorflowError
from tasks.run.errors import Unexpected

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.context.mirror_run import MirrorRun

T = TypeVar("T")

log = logging.getLogger("mirrorflow.on_demand")


@dataclass(frozen=True, slots=True)
class WorkStep:
    """`name` is that of the task, as in a poll. `body` may be called again when it raises: a retry."""

    name: str
    body: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Work:
    """What is done for one image, `label`; a step runs although the one before it failed.

    `is_question`: somebody waits for its outcome.
    """

    run: MirrorRun
    label: str
    steps: tuple[WorkStep, ...]
    is_question: bool = False


class Executor(Protocol):
    """Takes work at once and returns at once."""

    def submit(self, work: Work) -> None: ...


@dataclass(slots=True)
class Answering(Generic[T]):
    """A body whose first outcome a client waits for. Retries go on after the client was answered."""

    body: Callable[[], T]
    first: Future[T] = field(default_factory=Future)
    expected: tuple[type[MirrorflowError], ...] = ()  # answers too, and no failures of the step

    def __call__(self) -> T | None:
        try:
            result = self.body()
        except MirrorflowError as error:
            self._fail(error)
            if isinstance(error, self.expected):
                return None
            raise
        except BaseException as error:
            log.exception("unexpected error on demand")
            self._fail(Unexpected(error))
            raise
        if not self.first.done():
            self.first.set_result(result)
        return result

    def _fail(self, error: MirrorflowError) -> None:
        if not self.first.done():
            self.first.set_exception(error)


def do(work: Work) -> None:
    """All steps, one after the other, without Prefect and without its retries."""
    for step in work.steps:
        try:
            step.body()
        except MirrorflowError as error:
            log.error("%s: %s: %s", work.label, step.name, error)  # noqa: TRY400 - for people
        except Exception:
            log.exception("%s: %s", work.label, step.name)
