"""How the store does with 200,000 blobs and 20,000 tags: prints figures, asserts nothing about time.

python -m tests.registry_server.store.scale ROOT [TAGS]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from registry_server.http.metrics.prometheus import PoolSize
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.gc.collector import Care, collect
from registry_server.store.gc.retention import GcOptions
from registry_server.store.maintenance.scrub import find_missing, scrub
from registry_server.store.maintenance.stats import stats
from registry_server.store.store import Store
from tests.registry_server.store.images import image, layer, record

if TYPE_CHECKING:
    from collections.abc import Iterator

START = "import sys; from pathlib import Path; from registry_server.store.store import Store; "
OPEN = START + "Store.open(Path(sys.argv[1]), create=False)"


@contextmanager
def timed(what: str) -> Iterator[None]:
    began, cpu = time.perf_counter(), time.process_time()
    yield
    seconds, busy = time.perf_counter() - began, time.process_time() - cpu
    print(f"{what:<44} {seconds:9.3f} s   {busy:8.3f} s of CPU", flush=True)


def fill(store: Store, tags: int, blobs_each: int) -> None:
    repository = store.repository(RepositoryName("big"))
    for number in range(tags):
        layers = [b"%d-%d" % (number, each) for each in range(blobs_each - 2)]
        for content in (b'{"n":%d}' % number, *layers):
            repository.put_blob(layer(content), content)
        descriptor = repository.put_manifest(image(*layers, config=b'{"n":%d}' % number))
        repository.put_tag(Tag(f"t{number:06}"), record(descriptor))
    for number in range(200):
        repository = store.repository(RepositoryName(f"library/r{number}"))
        repository.put_blob(layer(b"{}"), b"{}")
        repository.put_tag(Tag("1"), record(repository.put_manifest(image())))


def measure(root: Path, tags: int, blobs_each: int) -> None:
    store = Store.open(root, durability="none")
    if not store.repository(RepositoryName("big")).exists:
        with timed(f"filling it with {tags} tags, {tags * blobs_each} blobs"):
            fill(store, tags, blobs_each)
    big = store.repository(RepositoryName("big"))
    with timed("a process that opens the store"):
        subprocess.run([sys.executable, "-c", OPEN, str(root)], check=True)
    with timed("a process that only imports"):
        subprocess.run([sys.executable, "-c", START, str(root)], check=True)
    with timed("catalog"):
        names = store.repositories()
    print(f"  {len(names)} repositories")
    for last in ("", f"t{tags // 2:06}", f"t{tags - 50:06}"):
        with timed(f"tags/list, a page of 100 after {last!r}"):
            big.tags(last=last, limit=100)
    with timed("one tag"):
        big.find_manifest(Tag(f"t{tags // 2:06}"))
    with timed("the pool's bytes, for /metrics"):
        print(f"  {PoolSize(root).bytes():,} bytes")
    _collections(store, root, tags)
    with timed("stats"):
        stats(store)
    with timed("what tags lack"):
        assert not list(find_missing(store))
    with timed("scrub"):
        scrub(store)
    print(f"largest resident set: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


def _collections(store: Store, root: Path, tags: int) -> None:
    options = {root: GcOptions(delay=0.0, settle=0.0)}
    with timed("gc, nothing to collect"):
        print(" ", collect(store, options).to_json())
    repository = store.repository(RepositoryName("big"))
    for number in range(0, tags, 10):
        repository.delete_tag(Tag(f"t{number:06}"))
    with timed("gc --dry-run, a tenth to collect"):
        collect(store, options, Care(dry_run=True))
    with timed("gc, a tenth to collect"):
        print(" ", collect(store, options).to_json())
    with timed("gc, empties the trash"):
        print(" ", collect(store, options).to_json())


if __name__ == "__main__":
    measure(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20_000, 10)
