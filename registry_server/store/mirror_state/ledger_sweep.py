"""Forgetting what ledgers of other registries remember and nothing needs any more.

A forgotten blob or manifest costs requests: the registry is asked, or sent it, again. So what is young stays,
and a run that is under way loses at most what it has not touched for as long.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.errors import NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.store.errors import StoreError, translated
from registry_server.store.gc.collector import Care, collect
from registry_server.store.gc.retention import GcOptions
from registry_server.store.gc.sweep import repositories_of
from registry_server.store.mirror_state.ledger import FOLDER, open_ledger
from registry_server.store.pool.blob_pool import file_name

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from registry_server.store.gc.sweep import Pinned
    from registry_server.store.mirror_state.ledger import Ledger, LedgerRepository
    from registry_server.store.store import Store

KEPT_SECONDS: Final = 90 * 86400.0
"""How long a ledger, or what no tag of it needs, stays after it was last written."""


def sweep_ledgers(store: Store, used: Collection[str], now: float, pinned: Pinned) -> int:
    """Of all ledgers below the store; `used` are the folders of those that the profile has.

    `pinned`: digests that are needed without a tag, by repository. How many ledgers and marks of blobs went.
    A ledger that cannot be read, or removed, is left alone.
    """
    count = 0
    for folder in _folders(store.root / FOLDER):
        with suppress(StoreError, OSError):
            if folder.name not in used:
                count += _discard(folder, now - KEPT_SECONDS)
                continue
            ledger = open_ledger(store.root, folder.name, create=False)
            collect(ledger, {ledger.root: GcOptions(delay=KEPT_SECONDS, settle=0.0)}, Care(pinned=pinned))
            count += sweep_marks(ledger, now - KEPT_SECONDS, pinned)
    return count


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(each for each in parent.iterdir() if each.is_dir() and not each.is_symlink())
    except OSError:
        return []


def _discard(folder: Path, before: float) -> bool:
    """Runs touch the folder when they open it (`open_ledger`)."""
    if folder.stat().st_mtime >= before:
        return False
    gone = folder.with_name(f".gone-{os.getpid()}-{folder.name}")
    folder.rename(gone)  # a killed process leaves all of it or nothing under its name
    shutil.rmtree(gone, ignore_errors=True)
    return True


@translated
def sweep_marks(ledger: Ledger, before: float, pinned: Pinned) -> int:
    """Forget the blobs that no tag needs, and that were confirmed before this time; how many."""
    objects, count, left = ledger.roots[0].objects, 0, set[str]()
    for name in repositories_of(ledger.roots[0]):
        repository = ledger.repository(name)
        needed = _needed(repository, pinned.get(name, ()))
        folder = f"{repository.folder}/confirmed"
        marks = {each: f"{folder}/{each}" for each in objects.names(folder).objects}
        infos = objects.infos(*(key for each, key in marks.items() if each not in needed))
        old = {key for key, info in infos.items() if info.modified < before}
        objects.remove(*old)
        count += len(old)
        left |= {each for each, key in marks.items() if key not in old}
    for folder in objects.names("places").folders:
        names = objects.names(f"places/{folder}").objects
        places = {f"places/{folder}/{each}" for each in names if each not in left}
        objects.remove(*(key for key, info in objects.infos(*places).items() if info.modified < before))
    return count


def _needed(repository: LedgerRepository, pinned: Collection[str]) -> set[str]:
    """The names of the marks of all blobs below its tags, and below these digests."""
    found, seen = set[str](), set[Digest]()
    queue = [root for record in repository.tag_records().values() for root in record.roots]
    queue += map(Digest, pinned)
    while queue:
        digest = queue.pop()
        if digest in seen:
            continue
        seen.add(digest)
        with suppress(NotFound):
            descriptor, body = repository.read_manifest(digest)
            manifest = parse_manifest(body, descriptor.media_type)
            found |= {file_name(each.digest) for each in manifest.blobs}
            queue += [child.digest for child in manifest.manifests]
    return found
