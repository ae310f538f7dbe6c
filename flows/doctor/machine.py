"""What the mirror stands on: its folders, their disks, its port, Prefect."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.doctor.findings import Subject
from flows.entries import open_store as open_the_store
from flows.orchestration.server_record import is_healthy, read_record, running_server
from flows.orchestration.user_server import database_of
from flows.settings import MANY_RUNS, own_server_wanted, prefect_home
from registry_server.http.listener import CannotListen, listen
from registry_server.human_units import human_bytes
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import StoreMissing
from registry_server.store.filesystem.shared_filesystem import is_shared_kind, mounted_on, sharing_problem

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from flows.doctor.findings import Finding
    from profiles.model.profile import Profile
    from profiles.model.server.storage import Storage
    from registry_server.store.filesystem.shared_filesystem import SharedFileSystem
    from registry_server.store.store import Store

_MACHINE = Subject("this machine")
_LOW = 0.05  # of a disk
_FEW_FILES = 10_000  # a small image has some thirty


@dataclass(frozen=True, slots=True)
class MachineCheck:
    profile: Profile
    environment: Mapping[str, str]

    @property
    def subject(self) -> Subject:
        return _MACHINE

    def findings(self) -> Iterator[Finding]:
        storage = self.profile.storage
        roots = dict.fromkeys((storage.root_directory, *storage.roots().values()))
        if storage.storage_driver is not None:
            yield _object_storage(self.profile)
        for root in roots:
            yield _folder(root)
            yield from _file_system(root, storage.shared_file_system)
            yield from _disk(root, self.profile.http.limits.spare_bytes)
        serving = _is_serving(self.profile)
        if not serving:
            yield _port(self.profile)
        yield _prefect(prefect_home(storage), self.environment)
        if not own_server_wanted(self.environment):
            yield from _database(self.profile, self.environment["PREFECT_API_URL"])


def open_store(profile: Profile) -> Store | None:
    """The store, if there is one that can be read."""
    try:
        return open_the_store(profile, create=False)
    except (MirrorflowError, OSError):
        return None


def _object_storage(profile: Profile) -> Finding:
    """Whether the bucket answers, and the PostgreSQL of the locks."""
    where = profile.storage.where
    try:
        with open_the_store(profile, create=False).lease():
            return _MACHINE.ok("objects", f"{where} answers" + _locks_of(profile.storage))
    except StoreMissing as error:
        if "there is no store in" in str(error):
            return _MACHINE.note("objects", f"{where} has no store yet; it can be created")
        return _MACHINE.failed("objects", *_in_two(error))
    except MirrorflowError as error:
        return _MACHINE.failed("objects", *_in_two(error))


def _locks_of(storage: Storage) -> str:
    return (
        ", and so does the PostgreSQL of its locks" if storage.locks else "; its locks are for this host only"
    )


def _in_two(error: MirrorflowError) -> tuple[str, str]:
    """What was found, and what to do."""
    found, _, advice = str(error).rpartition("; ")
    return (found, advice) if found else (advice, "see docs/scaling.md")


def _folder(root: Path) -> Finding:
    """Whether files can be made there, by whoever asks."""
    home = next(each for each in (root, *root.absolute().parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".mirrorflow-doctor-") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        advice = f"let the user that runs mirrorflow write there: chown USER {home}"
        return _MACHINE.failed("store", f"{home} is not writable: {error.strerror}", advice)
    if home != root:
        return _MACHINE.note("store", f"{root} does not exist yet; it can be created")
    return _MACHINE.ok("store", f"{root} is writable")


def _file_system(root: Path, declared: SharedFileSystem) -> Iterator[Finding]:
    """Of a file system that hosts may share: whether they can use the store together."""
    real = os.path.realpath(root)
    mount = mounted_on(real)
    if mount is None or not is_shared_kind(mount):
        return
    if problem := sharing_problem(real, mount, declared):
        found, _, advice = problem.partition("; ")
        yield _MACHINE.failed("file system", found, advice)
    else:
        yield _MACHINE.ok("file system", f"{real} is on {mount.kind} ({declared})")


def _disk(root: Path, spare: int) -> Iterator[Finding]:
    home = next(each for each in (root, *root.absolute().parents) if each.exists())
    usage = shutil.disk_usage(home)
    found = f"{human_bytes(usage.free)} of {human_bytes(usage.total)} are free at {home}"
    advice = "free some space: mirrorflow store gc PROFILE, a `retention`, or a larger disk"
    if usage.free <= spare:
        yield _MACHINE.failed("disk", found, advice)
    elif usage.free < usage.total * _LOW:
        yield _MACHINE.note("disk", found, advice)
    else:
        yield _MACHINE.ok("disk", found)
    files = os.statvfs(home)
    if files.f_files and files.f_favail < _FEW_FILES:
        yield _MACHINE.note("files", f"only {files.f_favail:,} more files fit at {home} (inodes)", advice)


def _is_serving(profile: Profile) -> bool:
    store = open_store(profile)
    return store is not None and store.is_claimed_here("up")


def _port(profile: Profile) -> Finding:
    """Whether `up` could listen."""
    try:
        listener: socket.socket = listen(profile.http.address, profile.http.port)
    except CannotListen as error:
        return _MACHINE.note("port", str(error), "unless that is `mirrorflow serve`")
    listener.close()
    return _MACHINE.ok("port", f"{profile.http.address}:{profile.http.port} is free for `mirrorflow up`")


def _database(profile: Profile, api_url: str) -> Iterator[Finding]:
    """Of the Prefect server of a farm: whether it bears as many runs as may begin at once."""
    runs = sum(entry.shards for entry in profile.sync.registries)
    if runs < MANY_RUNS or all(entry.shards == 1 for entry in profile.sync.registries):
        return
    driver = database_of(api_url)
    if driver is None:
        return
    if driver and not driver.startswith("sqlite"):
        yield _MACHINE.ok("Prefect database", driver.partition("+")[0])
        return
    why = f"{runs:,} runs of workers may begin at once, and SQLite answers 503 to some of {MANY_RUNS}"
    advice = "give the Prefect server PostgreSQL: PREFECT_SERVER_DATABASE_CONNECTION_URL"
    if driver:
        yield _MACHINE.failed("Prefect database", f"SQLite: {why}", advice)
        return
    advice += ", and PREFECT_SERVER_DATABASE_DRIVER=postgresql+asyncpg, by which it tells so"
    yield _MACHINE.note("Prefect database", f"the server does not tell which it uses: {why}", advice)


def _prefect(home: Path, environment: Mapping[str, str]) -> Finding:
    if not own_server_wanted(environment):
        url = environment["PREFECT_API_URL"]
        if is_healthy(url):
            return _MACHINE.ok("Prefect", "the API of PREFECT_API_URL answers")
        advice = "start it, correct PREFECT_API_URL, or unset it to use mirrorflow's own server"
        return _MACHINE.failed("Prefect", "the API of PREFECT_API_URL does not answer", advice)
    url_of_ours = running_server(home)
    if url_of_ours is None:
        record = read_record(home)
        if record is not None and not record.process.is_on_this_host:
            found = f"the last server of this store ran on the host {record.process.host}"
            return _MACHINE.note(
                "Prefect", found, "no other host can reach it; PREFECT_API_URL names one that all can"
            )
        return _MACHINE.note("Prefect", "no server of this store runs", "`mirrorflow up` starts one")
    return _MACHINE.ok("Prefect", url_of_ours.removesuffix("/api"))
