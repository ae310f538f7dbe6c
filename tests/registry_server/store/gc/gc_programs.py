"""Programs that work on one store at the same time: run by gc/test_gc_races.py, never imported by it.

python -m tests.registry_server.store.gc.gc_programs write ROOT SEED SECONDS
python -m tests.registry_server.store.gc.gc_programs collect ROOT SEED SECONDS
python -m tests.registry_server.store.gc.gc_programs sweep ROOT
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from registry_server.oci.errors import ManifestUnknown
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import ClosureIncomplete, StoreFull
from registry_server.store.gc.collector import Care, collect
from registry_server.store.gc.retention import GcOptions
from registry_server.store.pool.tombstones import Tombstones
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.registry_server.store.filesystem.crash_writer import in_child, killed_at, publish, receive
from tests.registry_server.store.images import check, image, layer, record, tag_image
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository

# Nothing is safe by its age: whatever keeps content here is the protocol.
HASTY = GcOptions(delay=0.02, settle=0.0)
_TRIES = 200


REMOTE = "MIRRORFLOW_TEST_REMOTE"
"""The variable that says that the store is in a bucket; each program has a local folder of its own then."""
REMEMBERED = 0.5
"""Seconds for which a program remembers what it wrote. The collector spares twice as much."""


def opened(root: Path, who: str) -> Store:
    """The store that all programs work on: in `root`, or in a bucket, as from a host of its own."""
    if REMOTE not in os.environ:
        return Store.open(root, durability="batch")
    store = Store.open(root / who, remote=RemoteStorage.from_json(os.environ[REMOTE]))
    place = store.roots[0]
    place.pool.trash = Tombstones(place.objects, place.turns, recent_seconds=REMEMBERED)
    return store


def write(root: Path, seed: str, until: float) -> None:
    """Set, move and delete tags of its own, in repositories and with layers that others share; say so."""
    chance = random.Random(seed)  # noqa: S311 - the same test each time, not a secret
    store = opened(root, f"writer-{seed}")
    # In a bucket what was used lately is spared: of more layers, some were not.
    layers_shared = 40 if REMOTE in os.environ else 6
    shared = [random.Random(number).randbytes(20_000) for number in range(layers_shared)]  # noqa: S311 - as above
    while time.time() < until:
        repository = store.repository(RepositoryName(f"library/{chance.choice('abc')}"))
        tag = f"w{seed}-{chance.randrange(6)}"
        if chance.random() < 0.25:
            print(f"drop {repository.name} {tag}", flush=True)
            repository.delete_tag(Tag(tag))
            continue
        layers = [*chance.sample(shared, 2), chance.choice([b"", chance.randbytes(3000)])]
        print(f"try {repository.name} {tag}", flush=True)
        try:
            print(f"tag {repository.name} {tag} {_publish(repository, tag, layers)}", flush=True)
        except StoreFull:
            time.sleep(0.01)


def _publish(repository: Repository, tag: str, layers: list[bytes]) -> Digest:
    """As the mirror does: what was collected on the way is brought again."""
    for _ in range(_TRIES):
        for content in (b"{}", *layers):
            receive(repository, content, lambda _: None)
        descriptor = repository.put_manifest(image(*layers))
        try:
            repository.put_tag(Tag(tag), record(descriptor))
        except (ClosureIncomplete, ManifestUnknown):
            continue
        return descriptor.digest
    raise AssertionError("a collector and a writer never came to terms")


def collect_for_ever(root: Path, seed: str, until: float) -> None:
    store = opened(root, f"collector-{seed}")
    totals = {"collections": 0, "markers": 0, "trashed": 0, "purged": 0, "restored": 0}
    while time.time() < until:
        try:
            report = collect(store, {store.root: HASTY})
        except StoreFull:
            time.sleep(0.01)
            continue
        assert report.well, report.problems
        totals["collections"] += 1
        for name in ("markers", "trashed", "purged", "restored"):
            totals[name] += getattr(report, name)
    print(totals, flush=True)


def sweep(root: Path) -> None:
    """Kill a collection before its first step, before its second, … until one comes through."""
    killed = 0
    for place in _places(root):
        _prepare(place)
        status = in_child(partial(_doomed, place, killed + 1))
        store = Store.open(place, create=False)
        assert check(store) == 2
        for _ in range(2):  # nothing that was left behind is in the way, and nothing stays behind
            collect(store, {place: HASTY})
        assert check(store) == 2
        assert not (place / "trash").exists()
        assert len(list((place / "blobs").glob("*/*/*"))) == 6
        if status == 0:
            break
        killed += 1
    print(killed)


def _places(root: Path) -> Iterator[Path]:
    for number in count():
        yield root / str(number)


def _prepare(place: Path) -> None:
    """Two images that stay, one that goes, one in the trash that is needed, leftovers."""
    store = Store.open(place, durability="none")
    repository = store.repository(RepositoryName("library/nginx"))
    tag_image(repository, "1", b"one", b"shared")
    tag_image(repository, "2", b"two", b"shared")
    publish(repository, "gone", [b"first" * 2000, b"shared", b"last"], lambda _: None)
    repository.delete_tag(Tag("gone"))
    path = file_of(repository, layer(b"one").digest)
    (place / "trash/1").mkdir(parents=True)
    path.rename(place / "trash/1" / layer(b"one").digest.replace(":", "-"))
    (place / "incoming" / layer(b"never").digest.replace(":", "-")).write_bytes(b"nev")
    for folder, _, names in os.walk(place):
        for name in names:
            os.utime(Path(folder, name), (1.0, 1.0))


def _doomed(place: Path, kill_at: int) -> None:
    store = Store.open(place, durability="none", create=False)
    killed_at(kill_at)
    collect(store, {place: HASTY}, Care())


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if what == "sweep":
        sweep(where)
    else:
        end = time.time() + float(sys.argv[4])
        (write if what == "write" else collect_for_ever)(where, sys.argv[3], end)
