"""The process of a run that Prefect's runner or a worker has started, and what it owes to these.

They take every exit code but 0 for a crash, and every error in the log of a run for one. A run that ends as
`Failed` or `Cancelled` is neither: its state and its report say what there is to say.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from flows.lifecycle.parent_death import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUN_ID: Final = "PREFECT__FLOW_RUN_ID"  # Prefect gives it to the process of a run, and to no other
# Prefect's engine raises the state that a flow returns, and logs that with a traceback.
_RETURNED: Final = frozenset({"FailedRun", "CancelledRun"})
_ENGINE_LOG: Final = "prefect.flow_runs"
_TASK_LOG: Final = "prefect.task_runs"
_CANCELLED: Final = "Finished in state Cancelled"
_INTERRUPTED: Final = 130


def is_engine_process(environment: Mapping[str, str] | None = None) -> bool:
    """Whether a runner or a worker has started this process for one run."""
    return _RUN_ID in (os.environ if environment is None else environment)


def prepare_engine_process() -> None:
    """Once, when the flow begins: nothing happens in any other process."""
    if not is_engine_process():
        return
    die_with_parent(os.getppid())  # when what started it is killed, nobody could cancel it any more
    logging.getLogger(_ENGINE_LOG).addFilter(is_worth_logging)
    logging.getLogger(_TASK_LOG).addFilter(is_worth_logging)


def is_worth_logging(record: logging.LogRecord) -> bool:
    """False: it is the traceback of a state that the flow has returned.

    Prefect logs a cancelled task run as an error; that becomes information.
    """
    if record.levelno == logging.ERROR and record.getMessage().startswith(_CANCELLED):
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    raised = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
    return raised is None or raised.__name__ not in _RETURNED


def forced_exit_code(*, is_known: bool) -> int:
    """What a process exits with whose steps do not end. `is_known`: the server has the state of the run."""
    return 0 if is_known and is_engine_process() else _INTERRUPTED
