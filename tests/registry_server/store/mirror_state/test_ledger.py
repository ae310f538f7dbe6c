"""What is remembered of another registry: a tag only after everything that it stands on."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import Manifest, parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import ClosureIncomplete, StoreMissing
from registry_server.store.mirror_state.ledger import Ledger, open_ledger
from registry_server.store.records import TagRecord
from registry_server.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

APP = RepositoryName("team/app")
BLOBS = [Descriptor("application/octet-stream", Digest.of(text), len(text)) for text in (b"{}", b"layer")]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path, "other", "none")


def image() -> Manifest:
    config, layer = (blob.to_json() for blob in BLOBS)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config,
        "layers": [layer],
    }
    return parse_manifest(json.dumps(document).encode())


def record(manifest: Manifest) -> TagRecord:
    found = manifest.descriptor()
    return TagRecord(found.digest, found.media_type, found.size, time.time())


def test_a_tag_needs_every_blob_confirmed(ledger: Ledger) -> None:
    repository, manifest = ledger.repository(APP), image()
    repository.put_manifest(manifest)
    repository.confirm(BLOBS[0].digest)
    with pytest.raises(ClosureIncomplete):
        repository.put_tag(Tag("1"), record(manifest))
    repository.confirm(BLOBS[1].digest)
    repository.put_tag(Tag("1"), record(manifest))
    assert repository.tags() == ["1"]


def test_a_blob_is_confirmed_for_one_repository(ledger: Ledger) -> None:
    ledger.repository(APP).confirm(BLOBS[0].digest)
    assert ledger.repository(APP).is_confirmed(BLOBS[0].digest)
    assert not ledger.repository(RepositoryName("team/other")).is_confirmed(BLOBS[0].digest)


def test_what_is_forgotten_is_not_confirmed_any_more(ledger: Ledger) -> None:
    repository, manifest = ledger.repository(APP), image()
    repository.confirm(BLOBS[0].digest)
    digest = repository.put_manifest(manifest).digest
    assert repository.is_confirmed(digest)
    repository.forget([BLOBS[0].digest, digest])
    assert not repository.is_confirmed(BLOBS[0].digest)
    assert not repository.is_confirmed(digest)


def test_a_body_that_is_only_kept_is_not_confirmed(ledger: Ledger) -> None:
    """Manifests and signatures are kept while they are judged, before anything is pushed."""
    ledger.repository(APP).put_blob(BLOBS[1], b"layer")
    assert not ledger.repository(APP).is_confirmed(BLOBS[1].digest)


def test_the_place_of_a_blob_is_the_last_that_was_noted(ledger: Ledger) -> None:
    assert ledger.place_of(BLOBS[0].digest) == ""
    for place in ("a/b", "c/d"):
        ledger.note_place(BLOBS[0].digest, place)
    assert ledger.place_of(BLOBS[0].digest) == "c/d"


def test_ledgers_stand_below_the_store_and_share_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path, durability="none")
    for name in ("one", "two"):
        open_ledger(store.root, name, "none")
    open_ledger(store.root, "one").repository(APP).confirm(BLOBS[0].digest)
    assert not open_ledger(store.root, "two").repository(APP).is_confirmed(BLOBS[0].digest)
    assert store.repositories() == []
    with pytest.raises(StoreMissing):
        open_ledger(store.root, "three", create=False)
