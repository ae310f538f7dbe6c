"""Where the bodies of steps run: in threads of this process, in processes of its own (`processes: N`), or in
Dask (`engine`).

Python runs one thread at a time in a process. Several processes pay where CPU is the limit: polls, and many
small images.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flows.entries import find_entry, open_store
from flows.lifecycle.accepted_profile import accepted_text, load_accepted
from profiles.loader import parse_profile
from profiles.values.dask_address import dask_address
from registry_server.oci.errors import MirrorflowError
from tasks.context.mirror_run import MirrorRun, open_run
from tasks.engines.steps import broken, run_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future, ProcessPoolExecutor
    from contextlib import AbstractContextManager
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from flows.orchestration.dask_cluster import OpenContext
    from profiles.model.destination import DestinationEntry
    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from profiles.values.shard import Shard
    from tasks.engines.direct_engine import Call
    from tasks.run.values import Output


class ProcessLost(MirrorflowError):
    """The next steps of the run end like this one."""

    def __str__(self) -> str:
        return (
            "a process that carries out steps ended unexpectedly (killed, or out of memory?); run it again, "
            "with fewer `sync.processes` if that repeats"
        )


class DaskMissing(MirrorflowError):
    """`sync.engine` is set, and the library for it is not installed."""

    def __str__(self) -> str:
        return (
            f"`sync.engine: {self.args[0]}` needs Dask, which is not installed; install mirrorflow[dask], "
            "or drop the key"
        )


class OtherProfile(MirrorflowError):
    """A process of a run read another profile than the run."""

    def __str__(self) -> str:
        profile, registry = self.args
        return f"{profile}: changed while a run of {registry} began; start it again"


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a process needs to know to open the context of a run. Picklable, a few hundred bytes.

    `processes` share the limits of the registry entry. `text` is that of the profile, for a host that has no
    file of it: where it is "", the profile is read from `path`.
    """

    path: Path
    registry: str
    only: frozenset[str]
    processes: int
    fingerprint: str
    shard: Shard | None
    text: str = ""


@contextmanager
def where_steps_run(run: MirrorRun, profile: Profile, path: Path) -> Iterator[Call]:
    """How an engine has a step of this run carried out: in as many processes as there can be requests."""
    if run.locked:  # what a lock names is not worth telling other processes
        yield partial(run_step, run)
        return
    if profile.sync.engine is not None:
        with dask_workers_of(profile.sync.engine, run, profile, path) as call:
            yield call
        return
    processes = min(profile.sync.processes, run.entry.req_concurrent)
    if processes < 2:
        yield partial(run_step, run)
        return
    registry = run.entry.name
    key = RunKey(path, registry, run.only, processes, fingerprint_of(profile, registry), run.shard)
    with _processes_of(key, run) as call:
        yield call


@contextmanager
def _processes_of(key: RunKey, run: MirrorRun) -> Iterator[Call]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    context = get_context("spawn")  # a fork would have our threads' locks, and not the threads
    stop = context.Event()
    with ProcessPoolExecutor(
        key.processes, mp_context=context, initializer=_begin, initargs=(key, stop, os.getpid())
    ) as pool:
        yield _Elsewhere(pool, run, stop)


@contextmanager
def dask_workers_of(engine: str, run: MirrorRun, profile: Profile, path: Path) -> Iterator[Call]:
    """Raises `DaskMissing`, and `DaskUnavailable`."""
    try:
        from flows.orchestration.dask_cluster import dask_workers
    except ImportError as error:
        raise DaskMissing(engine) from error
    registry, text = run.entry.name, accepted_text(path)
    mark = fingerprint_of(profile, registry)

    def opener(workers: int) -> OpenContext:
        key = RunKey(path.absolute(), registry, run.only, workers, mark, run.shard, text)
        return partial(_open, key)

    with dask_workers(dask_address(engine), run, opener) as call:
        yield call


@dataclass(slots=True)
class _Elsewhere:
    pool: ProcessPoolExecutor
    run: MirrorRun
    stop: Event

    def __call__(self, step: str, values: Sequence[Any], before: Output[Any] | None) -> Output[Any]:
        """As `run_step`."""
        try:
            return self._wait_for(self.pool.submit(_carry_out, step, values, before))
        except (BrokenExecutor, OSError):  # a step raises none: it is a pipe of the pool
            return broken(step, values, ProcessLost(), before)
        except MirrorflowError as error:  # it could not begin
            return broken(step, values, error, before)

    def _wait_for(self, future: Future[Output[Any]]) -> Output[Any]:
        while not wait([future], timeout=0.2).done:
            if self.run.stop.is_set():
                self.stop.set()
        return future.result()


_OPEN: Final[list[tuple[AbstractContextManager[MirrorRun], MirrorRun]]] = []  # the one of this process
_FAILED: Final[list[MirrorflowError]] = []  # why there is none


def _begin(key: RunKey, stop: Event, parent: int) -> None:
    """In a new process: open the context, once. An error is told by each step: the pool would not tell it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the flow's says when to stop
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        opened = _open(key, stop)
        _OPEN.append((opened, opened.__enter__()))
    except MirrorflowError as error:
        _FAILED.append(error)


def _open(key: RunKey, stop: Event | threading.Event) -> AbstractContextManager[MirrorRun]:
    """Raises `OtherProfile`, and what loading a profile raises."""
    profile = (parse_profile(key.text, key.path) if key.text else load_accepted(key.path)).profile
    if fingerprint_of(profile, key.registry) != key.fingerprint:
        raise OtherProfile(key.path, key.registry)
    entry = find_entry(profile, key.registry)
    profile, entry = share_of(profile, entry, key.shard.of if key.shard else 1)
    profile, entry = share_of(profile, entry, key.processes)
    return open_run(
        profile,
        entry,
        open_store(profile),
        only=key.only,
        stop=stop,  # type: ignore[arg-type] # it has what is used of a threading.Event
        shard=key.shard,
    )


def _end_with(parent: int) -> None:
    """A parent that was killed cannot say so. (A death signal would come from its thread, not from it.)"""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _carry_out(step: str, values: Sequence[Any], before: Output[Any] | None) -> Output[Any]:
    if _FAILED:
        raise _FAILED[0]
    _, run = _OPEN[0]
    return run_step(run, step, values, before)


def fingerprint_of(profile: Profile, registry: str) -> str:
    """Of everything that the profile says about a registry entry: what it says of all, too, as policies."""
    entry = find_entry(profile, registry)
    said = (entry.model_dump_json(), profile.model_dump_json(exclude={"sync": {"registries"}}))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def share_of(profile: Profile, entry: RegistryEntry, parts: int) -> tuple[Profile, RegistryEntry]:
    """Both with limits for one of several processes or shards; together these keep what the profile says."""
    if parts == 1:
        return profile, entry
    rate = entry.req_per_sec
    limits = {
        "req_concurrent": max(1, entry.req_concurrent // parts),
        "req_per_sec": rate / parts if rate is not None else None,
        "bytes_per_sec": _part(entry.bytes_per_sec, parts),
    }
    sync = profile.sync.model_copy(update={"bytes_per_sec": _part(profile.sync.bytes_per_sec, parts)})
    divided = profile.model_copy(update={"sync": sync, "destinations": _share_of_each(profile, parts)})
    return divided, entry.model_copy(update=limits)


def _share_of_each(profile: Profile, parts: int) -> tuple[DestinationEntry, ...]:
    return tuple(
        each.model_copy(
            update={
                "req_concurrent": max(1, each.req_concurrent // parts),
                "req_per_sec": each.req_per_sec / parts if each.req_per_sec is not None else None,
            }
        )
        for each in profile.destinations
    )


def _part(limit: int | None, parts: int) -> int | None:
    return None if limit is None else max(1, limit // parts)
