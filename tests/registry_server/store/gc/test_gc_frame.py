"""Garbage collection where something is wrong, left behind, or going on: what cannot be read is kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreLocked, StoreMissing
from registry_server.store.gc.collector import collect, last_report
from registry_server.store.gc.retention import GcOptions
from registry_server.store.spool.upload_session_files import UploadUnknown
from registry_server.store.store import Store
from tests.registry_server.store.gc.collecting import OPTIONS, A, B, C, age, gc, in_pool, untag
from tests.registry_server.store.images import (
    check,
    files_below,
    layer,
    put_image,
    tag_image,
)
from tests.support.stored_files import file_of, objects_folder

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.gc.gc_report import Removal
    from registry_server.store.repository import Repository


def test_a_manifest_that_is_lost_leaves_everything_of_its_repository_alone(
    store: Store, nginx: Repository, other: Repository
) -> None:
    lost = tag_image(nginx, "1", A)
    tag_image(nginx, "2", B)
    tag_image(other, "1", C)
    untag(nginx, "2")
    untag(other, "1")
    file_of(nginx, lost.digest).unlink()
    age(store)
    report = gc(store)
    assert len(report.problems) == 1
    assert f"library/nginx@{lost.digest}: the manifest is missing" in report.problems[0]
    assert not report.well
    assert in_pool(store, A)
    assert in_pool(store, B)
    assert not in_pool(store, C)


def test_a_damaged_manifest_and_an_unreadable_tag_count_as_unknown(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A)
    put_image(nginx, B)
    path = file_of(nginx, Tag("1"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
    age(store)
    assert "is damaged" in gc(store).problems[0]
    assert in_pool(store, B)


def test_an_unreadable_tag_leaves_everything_alone(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A)
    nginx._objects.put("repos/library/nginx/_r/tags/1", b"")
    age(store)
    assert "the tag cannot be read" in gc(store).problems[0]
    assert in_pool(store, A)


def test_without_its_repositories_nothing_is_swept(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A)
    age(store)
    (objects_folder(store) / "repos").rename(store.root / "unmounted")
    with pytest.raises(StoreMissing, match="check that its volume is mounted"):
        gc(store)
    assert in_pool(store, A)


# Leftovers.


def test_old_incoming_blobs_go_unless_somebody_fills_them(store: Store, nginx: Repository) -> None:
    with nginx.receive_blob(layer(A)) as incoming:
        incoming.write(A[:3])
        age(store)
        gc(store)
        incoming.write(A[3:])
        incoming.commit()
    with nginx.receive_blob(layer(B)) as incoming:
        incoming.write(B[:3])
    gc(store)
    with nginx.receive_blob(layer(B)) as incoming:
        assert incoming.offset == 3
    age(store)
    assert gc(store).leftovers == 1
    with nginx.receive_blob(layer(B)) as incoming:
        assert incoming.offset == 0


def test_upload_sessions_that_nobody_writes_to_end(store: Store, nginx: Repository) -> None:
    uploads = store.uploads(nginx.name)
    old = uploads.begin(nginx.name)
    age(store)
    for folder in (store.root / "uploads").iterdir():
        os.utime(folder, (1.0, 1.0))
    young = uploads.begin(nginx.name)
    assert gc(store).leftovers == 1
    with pytest.raises(UploadUnknown):
        uploads.state(nginx.name, old)
    assert uploads.state(nginx.name, young).offset == 0


# The rest of the frame.


def test_an_upload_has_the_time_that_its_limits_give_it_whatever_the_delay(
    store: Store, nginx: Repository
) -> None:
    uploads = store.uploads(nginx.name)
    begun = uploads.begin(nginx.name)
    upload = uploads.open(nginx.name, begun)
    assert upload is not None
    upload.write(A)
    upload.publish()
    upload.close()
    age(store, days=0.5)
    os.utime(store.root / "uploads" / begun, (1.0, 1.0))
    gc(store)
    told: list[Removal] = []
    gc(store, dry_run=True, told=told.append, session_idle=3600.0)
    assert uploads.state(nginx.name, begun).offset == len(A)
    gc(store, told=told.append, session_idle=3600.0)
    with pytest.raises(UploadUnknown):
        uploads.state(nginx.name, begun)
    reason = "an abandoned upload"
    assert [(each.name, each.reason) for each in told] == [(f"uploads/{begun}", reason)] * 2


def test_one_collection_at_a_time(store: Store) -> None:
    with store.claim("gc"), pytest.raises(StoreLocked, match=str(os.getpid())):
        gc(store)


def test_it_ends_between_two_repositories_when_it_is_told_to(store: Store, nginx: Repository) -> None:
    nginx.put_blob(layer(A), A)
    age(store)
    gc(store, stopped=lambda: True)
    assert in_pool(store, A)


def test_each_root_is_collected_by_its_own_options(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a", subpaths={"/kube": tmp_path / "b"}, durability="none")
    main = store.repository(RepositoryName("library/nginx"))
    kube = store.repository(RepositoryName("kube/proxy"))
    for repository in (main, kube):
        repository.put_blob(layer(A), A)
    for root in ("a", "b"):
        for path in files_below(tmp_path / root):
            os.utime(path, (1.0, 1.0), follow_symlinks=False)
    collect(store, {tmp_path / "a": OPTIONS, tmp_path / "b": GcOptions(enabled=False)})
    assert not main.has_blob(layer(A).digest)
    assert kube.has_blob(layer(A).digest)
    collect(store, {tmp_path / "b": OPTIONS})
    assert not kube.has_blob(layer(A).digest)


def test_what_the_last_collection_did_is_remembered(store: Store) -> None:
    assert last_report(store) is None
    gc(store, dry_run=True)
    assert last_report(store) is None
    report = gc(store)
    assert last_report(store) == report.to_json()


@pytest.mark.parametrize("jump", [-86400.0, 86400.0], ids=["back", "forth"])
def test_a_clock_that_jumps_costs_no_tag(store: Store, nginx: Repository, jump: float) -> None:
    """What was written by one clock is judged by another: young things may go or stay, tagged ones stay."""
    tag_image(nginx, "1", A)
    put_image(nginx, B)
    age(store, jump / 86400)
    gc(store)
    gc(store)
    assert check(store) == 1
    assert in_pool(store, B) is (jump < 0)
