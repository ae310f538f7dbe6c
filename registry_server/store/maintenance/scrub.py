"""Scrubbing: hash everything that the pool holds again, and look for what tags need and is not there.

What has not the digest that its name promises goes into `quarantine/`, where nobody reads it. How far it got
is on record in each root, so that a scrub that was stopped goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.errors import MirrorflowError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.store import records
from registry_server.store.errors import StoreError, translated
from registry_server.store.objects.objects import content_of
from registry_server.store.pool.blob_pool import blob_key, blob_of, digest_of, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.storage_root import StorageRoot
    from registry_server.store.store import Store

ROLE: Final = "scrub"
_NOTE_SECONDS: Final = 5.0
_QUARANTINE: Final = "quarantine"
_CURSOR: Final = "scrub.cursor"
_REPORT: Final = "scrub.json"


@dataclass(frozen=True, slots=True)
class MissingContent:
    """Something that a tag needs and its repository does not hold (any more)."""

    repository: RepositoryName
    tag: Tag
    record: TagRecord
    descriptor: Descriptor
    is_manifest: bool

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}: {self.descriptor.digest} is missing"


@dataclass(slots=True)
class ScrubReport:
    """What one scrub saw: `blobs` and `bytes` hashed, `corrupt` digests; `complete`: it came to the end."""

    started: float = 0.0
    seconds: float = 0.0
    blobs: int = 0
    bytes: int = 0
    corrupt: list[str] = field(default_factory=list)
    complete: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Pace:
    """At most `rate` bytes a second (0: as fast as it goes), until it is `stopped`."""

    rate: float = 0.0
    stopped: Callable[[], bool] = lambda: False
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _owed: float = 0.0
    _since: float | None = None

    def spend(self, count: int) -> None:
        """Wait until so many bytes are within the rate."""
        if not self.rate:
            return
        now = self.clock()
        passed = 0.0 if self._since is None else now - self._since
        self._since = now
        self._owed = max(0.0, self._owed - passed) + count / self.rate
        if self._owed > 0.1:  # sleeping for less costs more than it is worth
            self.sleep(self._owed)


def scrub(store: Store, pace: Pace | None = None, *, again: bool = False) -> ScrubReport:
    """Hash every pool file, going on where the last scrub stopped unless `again`.

    Raises `StoreLocked` when another scrub is at it, `StoreError`.
    """
    pace = pace or Pace()
    report = ScrubReport(started=time.time())
    with contextlib.ExitStack() as claims:
        for root in store.roots:
            claims.enter_context(root.turns.claim(ROLE))
        report.complete = all(_Scrub(root, pace, report).run(again=again) for root in store.roots)
        if report.complete:
            for root in store.roots:
                root.objects.remove(_CURSOR)
        report.seconds = time.time() - report.started
        _write(store.roots[0], _REPORT, report.to_json())
    return report


def find_missing(store: Store) -> Iterator[MissingContent]:
    """What visible tags need and do not have: invariant 1, looked after. Sparse platforms are no lack."""
    for name in store.repositories():
        repository = store.repository(name)
        for tag, record in repository.tag_records().items():
            yield from _missing_in(repository, tag, record)


def quarantined(store: Store) -> list[Digest]:
    """What was found corrupt, and lies there for whoever wants to know why."""
    names = (name for root in store.roots for name in root.objects.names(_QUARANTINE).objects)
    return [found for name in names if (found := digest_of(name))]


@dataclass(frozen=True, slots=True)
class _Scrub:
    root: StorageRoot
    pace: Pace
    report: ScrubReport

    @translated
    def run(self, *, again: bool) -> bool:
        """Whether it came to the end."""
        last = "" if again else _read_cursor(self.root)
        noted = time.monotonic()
        for key in self._pool(last):
            if self.pace.stopped():
                _write(self.root, _CURSOR, {"after": last})
                return False
            self._check(key)
            last = key
            if time.monotonic() - noted > _NOTE_SECONDS:
                noted = time.monotonic()
                _write(self.root, _CURSOR, {"after": last})
        _write(self.root, _CURSOR, {"after": last})
        return True

    def _pool(self, after: str) -> Iterator[str]:
        """Keys below `blobs` (`sha256/ab/<hex>`), in order."""
        objects = self.root.objects
        for algorithm in ("sha256", "sha512"):
            for shard in sorted(objects.names(f"blobs/{algorithm}").folders):
                if f"{algorithm}/{shard}/~" < after:
                    continue
                for name in sorted(objects.names(f"blobs/{algorithm}/{shard}").objects):
                    key = f"{algorithm}/{shard}/{name}"
                    if key > after:
                        yield key

    def _check(self, key: str) -> None:
        digest = blob_of(f"blobs/{key}")
        before = self.root.objects.look(f"blobs/{key}")
        if digest is None or before is None:  # collected meanwhile, or a link, which is no content
            return
        self.report.blobs += 1
        self.report.bytes += before.size
        # Else somebody has replaced it already.
        if not self._is_intact(digest) and self.root.objects.look(f"blobs/{key}") == before:
            self.root.objects.move(f"blobs/{key}", f"{_QUARANTINE}/{file_name(digest)}")
            self.root.pool.trash.forget(digest, "")  # or it would not be put again
            self.report.corrupt.append(str(digest))

    def _is_intact(self, digest: Digest) -> bool:
        """True as well for what is gone by now."""
        hasher = hashlib.new(digest.algorithm)
        try:
            for piece in self.root.objects.pieces(blob_key(digest)):
                hasher.update(piece)
                self.pace.spend(len(piece))
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False  # a bad sector: nobody can be served it, and the next blob is looked at
        return hasher.hexdigest() == digest.hex


def _missing_in(repository: Repository, tag: Tag, record: TagRecord) -> Iterator[MissingContent]:
    seen = set(record.sparse)
    queue = [(record.descriptor, True), *((each, True) for each in record.originals)]
    while queue:
        descriptor, is_manifest = queue.pop()
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        if not _is_here(repository, descriptor.digest):
            yield MissingContent(repository.name, tag, record, descriptor, is_manifest)
        elif is_manifest:
            queue += _parts(repository, descriptor)


def _is_here(repository: Repository, digest: Digest) -> bool:
    """Looked at in the pool as well, whatever its markers say."""
    try:
        repository.find_blob(digest)
    except NotFound:
        return False
    return True


def _parts(repository: Repository, descriptor: Descriptor) -> list[tuple[Descriptor, bool]]:
    try:
        held, body = repository.read_manifest(descriptor.digest)
        manifest = parse_manifest(body, held.media_type)
    except MirrorflowError:  # an entry of an index that is a blob, or damaged: then the hashes tell
        return []
    children = [(child, True) for child in manifest.manifests if not child.is_foreign]
    return [*((blob, False) for blob in manifest.blobs), *children]


def _read_cursor(root: StorageRoot) -> str:
    held = content_of(root.objects, _CURSOR)
    return records.decoded(held, lambda body: str(body["after"])) or ""


def _write(root: StorageRoot, key: str, document: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, StoreError):  # a courtesy: on a full disk it begins anew
        root.objects.put(key, records.encode(document))
