"""What a process has brought in it need not look for again, unless somebody took something away since."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.errors import ClosureIncomplete
from registry_server.store.filesystem.disk import Disk
from registry_server.store.objects.folder import FolderObjects
from registry_server.store.objects.objects import ObjectInfo
from registry_server.store.pool.brought import Brought, announce_removal
from registry_server.store.store import Store
from registry_server.store.turns.folder import FolderTurns
from tests.registry_server.store.gc.collecting import age, gc
from tests.registry_server.store.images import index, layer, put_image, record, tag_image
from tests.registry_server.store.test_run_memory import REMOTE_ONLY, anew

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.repository import Repository
    from tests.support.object_storage import S3Server

FOLDER, TURN = "repos/a/_r", "repos/a/_r/lock"
KEY = f"{FOLDER}/blobs/sha256-1"
LAYERS = (b"one layer", b"another layer")


def disk_in(folder: Path) -> Disk:
    (folder / "format.json").touch()  # a disk without one is a volume that was unmounted
    return Disk(str(folder), "none")


class Watched(FolderObjects):
    """The object of removals has the version that its content is. `looked` is called with each look."""

    def __init__(self, folder: Path, looked: Callable[[], object] = lambda: None) -> None:
        super().__init__(disk_in(folder))
        self.looks, self._looked = 0, looked

    def look(self, key: str) -> ObjectInfo | None:
        self.looks += 1
        self._looked()
        found = self.get(key)
        return None if found is None else ObjectInfo(len(found.content), 0.0, found.version)


def open_brought(folder: Path, objects: FolderObjects) -> Brought:
    return Brought(objects, FolderTurns(disk_in(folder)))


def test_what_was_put_is_known_until_a_removal_is_announced(tmp_path: Path) -> None:
    objects = Watched(tmp_path)
    brought = open_brought(tmp_path, objects)
    brought.note(brought.begin(FOLDER, TURN), KEY)
    brought.confirm(FOLDER)
    assert brought.has_all(FOLDER, [KEY])
    announce_removal(objects, FOLDER)
    assert brought.has_all(FOLDER, [KEY]), "who does not confirm is told what was"
    brought.confirm(FOLDER)
    assert not brought.has_all(FOLDER, [KEY])


def test_what_was_put_before_a_removal_is_not_known_after_a_new_beginning(tmp_path: Path) -> None:
    objects = Watched(tmp_path)
    brought = open_brought(tmp_path, objects)
    before = brought.begin(FOLDER, TURN)
    announce_removal(objects, FOLDER)
    brought.confirm(FOLDER)
    brought.begin(FOLDER, TURN)
    brought.note(before, KEY)  # a writer that was slow to say so
    brought.confirm(FOLDER)
    assert not brought.has_all(FOLDER, [KEY])


def test_what_was_put_without_a_beginning_is_not_known(tmp_path: Path) -> None:
    brought = open_brought(tmp_path, Watched(tmp_path))
    begun = brought.begun(FOLDER)
    brought.begin(FOLDER, TURN)
    brought.note(begun, KEY)
    assert not brought.has_all(FOLDER, [KEY])


def test_a_beginning_waits_for_who_is_in_the_middle_of_a_removal(tmp_path: Path) -> None:
    objects = Watched(tmp_path)
    brought, turns = open_brought(tmp_path, objects), FolderTurns(disk_in(tmp_path))
    begins = threading.Thread(target=brought.begin, args=(FOLDER, TURN))
    with turns.alone(TURN):
        begins.start()
        begins.join(0.2)
        assert objects.looks == 0
    begins.join()
    assert objects.looks == 1


def test_those_who_wait_for_a_look_share_the_next_one(tmp_path: Path) -> None:
    first, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        if not first.is_set():
            first.set()
            go_on.wait()

    objects = Watched(tmp_path)
    brought = open_brought(tmp_path, objects)
    brought.note(brought.begin(FOLDER, TURN), KEY)
    objects.looks, objects._looked = 0, wait
    threads = [threading.Thread(target=brought.confirm, args=(FOLDER,)) for _ in range(12)]
    threads[0].start()
    first.wait()
    announce_removal(objects, FOLDER)
    for each in threads[1:]:
        each.start()
    while sum(each.is_alive() for each in threads) < 12 or threading.active_count() < 12:
        pass
    go_on.set()
    for each in threads:
        each.join()
    assert objects.looks == 1 + 1, "the look that began before they came tells them nothing"
    assert not brought.has_all(FOLDER, [KEY])


@REMOTE_ONLY
def test_a_new_image_of_two_layers_takes_so_many_requests(nginx: Repository, bucket: S3Server) -> None:
    """Layers and their markers, the marker of a config that was there, manifest, record, tag: no listing."""
    tag_image(nginx, "v1", b"the first one says since when")
    bucket.new_requests()
    tag_image(nginx, "v2", *LAYERS)
    asked = [each.partition(" ")[0] for each in bucket.new_requests()]
    assert "ListObjectsV2" not in asked
    assert asked.count("PutObject") == 2 * 2 + 1 + 2 + 1
    assert len(asked) <= 2 * 2 + 1 + 2 + 1 + 2  # is the tag there, was anything removed


def _delete_blob(theirs: Repository, image: Descriptor) -> None:
    del image
    theirs.delete_blob(layer(LAYERS[0]).digest)


def _withdraw(theirs: Repository, image: Descriptor) -> None:
    theirs.withdraw({}, [image.digest])


def _collect(theirs: Repository, image: Descriptor) -> None:
    del image
    store = Store(theirs._root, {})
    age(store)
    assert gc(store).markers


@REMOTE_ONLY
@pytest.mark.parametrize("take_away", [_delete_blob, _withdraw, _collect])
def test_a_tag_is_refused_whose_content_another_process_took_away(
    store: Store, nginx: Repository, take_away: Callable[[Repository, Descriptor], None]
) -> None:
    tag_image(nginx, "old", b"something that stays")
    image = put_image(nginx, *LAYERS)
    take_away(anew(store), image)
    with pytest.raises(Exception) as caught:
        nginx.put_tag(Tag("v1"), record(image))
    assert isinstance(caught.value, ClosureIncomplete) or "there is no manifest" in str(caught.value)
    assert nginx.tag(Tag("v1")) is None
    again = tag_image(nginx, "v1", *LAYERS)
    assert nginx.tag(Tag("v1")) == record(again)


@REMOTE_ONLY
def test_an_index_is_known_with_all_that_is_below_it(nginx: Repository, bucket: S3Server) -> None:
    tag_image(nginx, "v1", b"the first one says since when")
    children = [nginx.read_manifest(put_image(nginx, each).digest) for each in LAYERS]
    made = nginx.put_manifest(index(*(parse_manifest(body, found.media_type) for found, body in children)))
    bucket.new_requests()
    nginx.put_tag(Tag("both"), record(made))
    assert [each.partition(" ")[0] for each in bucket.new_requests()] == [
        "HeadObject",  # was anything removed
        "GetObject",  # is the tag there
        "PutObject",
    ]
