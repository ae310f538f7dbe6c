"""Where the bodies of steps run: in threads of this process, or in processes of their own (`processes: N`).

Python runs one thread at a time in a process. Several processes pay where CPU is the limit: polls, and many
small images.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flows.entries import find_entry, open_store
from flows.lifecycle.accepted_profile import load_accepted
from tasks.context.mirror_run import MirrorRun, open_run
from tasks.engines.steps import run_step
from tasks.run.errors import NotWanted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from profiles.model.registry_entry import RegistryEntry
    from tasks.engines.direct_engine import Call
    from tasks.run.output import Output


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a process needs to know to open the context of a run. Picklable, a few hundred bytes.

    `processes` share the limits of the registry entry.
    """

    profile: Path
    registry: str
    only: frozenset[str]
    processes: int
    fingerprint: str


@contextmanager
def where_steps_run(run: MirrorRun, profile: Path, processes: int) -> Iterator[Call]:
    """How an engine has a step of this run carried out."""
    if processes < 2:
        yield partial(run_step, run)
        return
    key = RunKey(profile, run.entry.name, run.only, processes, fingerprint_of(run.entry))
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork would have our threads' locks, and not the threads
    stop = context.Event()
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(key, stop, os.getpid())
    ) as pool:
        yield _Elsewhere(pool, run, stop)


@dataclass(slots=True)
class _Elsewhere:
    pool: ProcessPoolExecutor
    run: MirrorRun
    stop: Event

    def __call__(self, step: str, values: Sequence[Any], before: Output[Any] | None) -> Output[Any]:
        future = self.pool.submit(_carry_out, step, values, before)
        while True:
            try:
                return future.result(timeout=0.2)
            except TimeoutError:
                if self.run.stop.is_set():
                    self.stop.set()


_OPEN: Final[list[tuple[AbstractContextManager[MirrorRun], MirrorRun]]] = []  # the one of this process


def _begin(key: RunKey, stop: Event, parent: int) -> None:
    """In a new process: open the context, once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the flow's says when to stop
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    profile = load_accepted(key.profile).profile
    entry = find_entry(profile, key.registry)
    if fingerprint_of(entry) != key.fingerprint:
        raise NotWanted(f"{key.profile}: changed while a run of {key.registry} began; start it again")
    opened = open_run(
        profile,
        share_of(entry, key.processes),
        open_store(profile),
        only=key.only,
        stop=stop,  # type: ignore[arg-type] # it has what is used of a threading.Event
    )
    _OPEN.append((opened, opened.__enter__()))


def _end_with(parent: int) -> None:
    """A parent that was killed cannot say so. (A death signal would come from its thread, not from it.)"""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _carry_out(step: str, values: Sequence[Any], before: Output[Any] | None) -> Output[Any]:
    _, run = _OPEN[0]
    return run_step(run, step, values, before)


def fingerprint_of(entry: RegistryEntry) -> str:
    """Of everything that the profile says about a registry entry."""
    return entry.model_dump_json()


def share_of(entry: RegistryEntry, processes: int) -> RegistryEntry:
    """The entry with limits for one of several processes; together they keep what the profile says."""
    rate = entry.req_per_sec
    return entry.model_copy(
        update={
            "req_concurrent": max(1, entry.req_concurrent // processes),
            "req_per_sec": rate / processes if rate is not None else None,
            "bytes_per_sec": entry.bytes_per_sec // processes if entry.bytes_per_sec else None,
        }
    )
