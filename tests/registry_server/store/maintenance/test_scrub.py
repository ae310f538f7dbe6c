"""Scrubbing finds what is not what its name says, puts it aside, and says which tags lack it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.errors import BlobUnknown
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreLocked
from registry_server.store.maintenance.scrub import Pace, find_missing, quarantined, scrub
from registry_server.store.store import Store
from tests.registry_server.store.images import check, image, index, layer, put_image, record, tag_image
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry_server.store.repository import Repository

A, B, C = b"layer a", b"layer b", b"layer c"


def corrupt(path: Path, content: bytes | None = None) -> None:
    """Bit rot: other bytes in the same file."""
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[::-1] if content is None else content)


def test_a_sound_store_is_read_once_and_found_sound(store: Store, nginx: Repository) -> None:
    tag_image(nginx, "1", A, B)
    report = scrub(store)
    assert (report.blobs, report.corrupt, report.complete) == (4, [], True)
    assert report.bytes == len(A) + len(B) + 2 + image(A, B).descriptor().size
    assert list(find_missing(store)) == []
    assert not (store.root / "scrub.cursor").exists()


@pytest.mark.parametrize(
    "damage",
    [
        corrupt,
        lambda path: corrupt(path, b""),
        lambda path: corrupt(path, path.read_bytes() + b"!"),
    ],
    ids=["other-bytes", "cut-short", "too-long"],
)
def test_a_corrupt_blob_is_put_aside_and_the_tags_that_need_it_are_named(
    store: Store, nginx: Repository, other: Repository, damage: Callable[[Path], None]
) -> None:
    tag_image(nginx, "1", A, B)
    tag_image(nginx, "2", B)
    tag_image(other, "1", A)
    damage(file_of(nginx, layer(A).digest))
    assert scrub(store).corrupt == [layer(A).digest]
    assert quarantined(store) == [layer(A).digest]
    with pytest.raises(BlobUnknown):
        nginx.find_blob(layer(A).digest)
    found = list(find_missing(store))
    assert [(each.repository, each.tag, each.descriptor.digest, each.is_manifest) for each in found] == [
        ("library/nginx", "1", layer(A).digest, False),
        ("library/other", "1", layer(A).digest, False),
    ]
    assert str(found[0]) == f"library/nginx:1: {layer(A).digest} is missing"
    with nginx.receive_blob(layer(A)) as incoming:
        incoming.write(A)
        incoming.commit()
    assert list(find_missing(store)) == []
    assert check(store) == 3


def test_a_corrupt_manifest_is_a_manifest_that_is_missing(store: Store, nginx: Repository) -> None:
    child = put_image(nginx, A)
    both = nginx.put_manifest(index(image(A)))
    nginx.put_tag(Tag("all"), record(both))
    corrupt(file_of(nginx, child.digest))
    assert scrub(store).corrupt == [child.digest]
    assert [(each.descriptor.digest, each.is_manifest) for each in find_missing(store)] == [
        (child.digest, True)
    ]
    nginx.put_manifest(image(A))
    assert list(find_missing(store)) == []


def test_platforms_that_were_left_out_are_no_lack(store: Store, nginx: Repository) -> None:
    put_image(nginx, A)
    both = nginx.put_manifest(index(image(A), image(B)))
    nginx.put_tag(Tag("all"), record(both, image(B).descriptor().digest))
    assert list(find_missing(store)) == []


def test_it_goes_on_where_it_was_stopped(store: Store, nginx: Repository) -> None:
    for number in range(20):
        nginx.put_blob(layer(b"%d" % number), b"%d" % number)
    answers = iter([False] * 7 + [True])
    first = scrub(store, Pace(stopped=lambda: next(answers)))
    assert (first.blobs, first.complete) == (7, False)
    second = scrub(store)
    assert (second.blobs, second.complete) == (13, True)
    assert scrub(store).blobs == 20
    answers = iter([False] * 7 + [True])
    scrub(store, Pace(stopped=lambda: next(answers)))
    assert scrub(store, again=True).blobs == 20


def test_a_blob_that_the_disk_cannot_read_is_corrupt_and_the_next_one_is_looked_at(
    store: Store, nginx: Repository
) -> None:
    for content in (A, B, C):
        nginx.put_blob(layer(content), content)
    sectors = iter([True, False, True])

    def read(_seconds: float) -> None:
        if not next(sectors):
            raise OSError(errno.EIO, "Input/output error")

    report = scrub(store, Pace(rate=1e-9, sleep=read))
    assert (report.blobs, len(report.corrupt), report.complete) == (3, 1, True)
    assert len(quarantined(store)) == 1


def test_a_rate_is_kept_by_sleeping() -> None:
    slept: list[float] = []
    pace = Pace(rate=1000.0, sleep=slept.append, clock=lambda: sum(slept))
    for _ in range(10):
        pace.spend(500)
    assert sum(slept) == pytest.approx(5.0, abs=0.6)
    idle = Pace(sleep=slept.append)
    idle.spend(10**9)
    assert sum(slept) < 6


def test_links_are_no_content_and_other_names_are_left_alone(store: Store, nginx: Repository) -> None:
    nginx.put_blob(layer(A), A)
    shard = file_of(nginx, layer(A).digest).parent
    (shard / "notes.txt").write_text("not ours")
    (shard / ("0" * 64)).symlink_to(shard / "notes.txt")
    assert scrub(store).corrupt == []
    assert (shard / "notes.txt").exists()


def test_one_scrub_at_a_time_and_all_roots(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a", subpaths={"/kube": tmp_path / "b"}, durability="none")
    for name in ("library/nginx", "kube/proxy"):
        store.repository(RepositoryName(name)).put_blob(layer(A), A)
    corrupt(file_of(store.repository(RepositoryName("kube/proxy")), layer(A).digest))
    with store.claim("scrub"), pytest.raises(StoreLocked, match=str(os.getpid())):
        scrub(store)
    report = scrub(store)
    assert (report.blobs, report.corrupt) == (2, [layer(A).digest])
    assert (tmp_path / "b/quarantine").is_dir()
    assert Digest(report.corrupt[0]) in quarantined(store)
