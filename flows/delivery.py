"""Prefect sends logs and events from threads of its own; who stops the server must wait for them."""

from __future__ import annotations

from typing import Final

_SECONDS: Final = 20.0


def deliver() -> None:
    """Everything that this process has told Prefect is with the server, or 20 s have passed for each kind.

    Otherwise the threads would go on trying at the end of the process, for minutes, against nobody.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=_SECONDS)
    APILogWorker.drain_all(timeout=_SECONDS)
