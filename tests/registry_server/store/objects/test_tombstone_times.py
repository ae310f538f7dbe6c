"""Deleting from a bucket whose listing tells fractions of a second, which an answer to HEAD does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.store.filesystem.disk import Disk
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.pool.blob_pool import blob_key, file_name
from registry_server.store.pool.tombstones import Tombstones
from registry_server.store.turns.folder import FolderTurns

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.gcs_server import GcsServer

CONTENT = b"a blob that nobody needed"
BLOB = Digest.of(CONTENT)
SECOND = 1_800_000_000.0


@pytest.mark.parametrize(
    ("put", "buried", "stays"),
    [
        pytest.param(SECOND + 0.75, SECOND + 0.25, True, id="put again in the second of its tombstone"),
        pytest.param(SECOND, SECOND + 1.25, False, id="older by a second"),
    ],
)
def test_what_was_put_again_since_its_tombstone_stays(
    gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: float, buried: float, *, stays: bool
) -> None:
    for name, value in gcs.environment.items():
        monkeypatch.setenv(name, value)
    objects = ObjectStorage(
        StorageDriver("gcs", gcs.bucket, f"tests/{tmp_path.name}", regionendpoint=gcs.url)
    )
    disk = Disk(str(tmp_path), "none")
    disk.make_first_folder(f"{disk.root}/staging")
    trash = Tombstones(objects, FolderTurns(disk))
    trash.put(BLOB, CONTENT, lambda: None)
    trash.take([BLOB])
    for key, modified in ((blob_key(BLOB), put), (f"trash/{file_name(BLOB)}", buried)):
        gcs.objects[f"tests/{tmp_path.name}/{key}"].modified = modified
    trash.purge([*trash.content()])
    assert objects.has_objects("blobs") == stays
    assert not objects.has_objects("trash")
