"""What every implementation of `Objects` promises."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from registry_server.store.objects.objects import Conflict, Names
from tests.support.object_storage import ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.objects.objects import Objects

LARGE = 20 << 20  # bytes: more than one part of an upload


def spooled(tmp_path: Path, content: bytes) -> tuple[str, int]:
    """A local file as `take_in` wants it: its path, and open."""
    path = tmp_path / "spooled"
    path.write_bytes(content)
    return str(path), os.open(path, os.O_RDWR)


def whole(objects: Objects, key: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(objects.pieces(key, start, stop))


def content_of(objects: Objects, key: str) -> bytes | None:
    found = objects.get(key)
    return found.content if found else None


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("format.json", id="at the top"),
        pytest.param("repos/library/alpine/_r/tags/3.20", id="deep"),
        pytest.param("repos/a/_r/blobs/sha256-00ff", id="a marker"),
        pytest.param("odd/with space, 100%25 & (ü)", id="what a URL has to escape"),
    ],
)
def test_what_was_put_is_read(objects: Objects, key: str) -> None:
    objects.put(key, b"one")
    objects.put(key, b"two")
    found = objects.get(key)
    assert found is not None
    assert found.content == b"two"
    assert whole(objects, key) == b"two"
    info = objects.look(key)
    assert info is not None
    assert info.size == 3
    assert info.version in {found.version, ""}
    assert info.modified == pytest.approx(time.time(), abs=60)


def test_what_is_absent_is_no_error(objects: Objects) -> None:
    assert objects.get("a/b") is None
    assert objects.look("a/b") is None
    assert objects.parsed("a/b", bytes.decode) is None
    assert objects.names("a") == Names()
    assert objects.page("a", bool) == []
    assert [*objects.walk("a"), *objects.contents("a")] == []
    assert not objects.has_folder("a")
    assert objects.folder_version("a") == ""
    assert objects.renew("a/b") == set()
    objects.remove("a/b", "a/c")
    objects.remove("a/b")
    with pytest.raises(FileNotFoundError):
        whole(objects, "a/b")


def test_the_version_is_another_one_for_other_content(objects: Objects) -> None:
    versions = set()
    for content in (b"1", b"2", b"33"):
        objects.put("a", content)
        found = objects.get("a")
        assert found is not None
        versions.add(found.version)
    assert len(versions) == 3


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        pytest.param(0, None, b"0123456789", id="all"),
        pytest.param(3, None, b"3456789", id="from"),
        pytest.param(3, 7, b"3456", id="from and to"),
        pytest.param(9, 10, b"9", id="the last byte"),
        pytest.param(0, 1, b"0", id="the first byte"),
        pytest.param(4, 4, b"", id="nothing"),
    ],
)
def test_a_part_is_read(objects: Objects, start: int, stop: int | None, expected: bytes) -> None:
    objects.put("digits", b"0123456789")
    assert whole(objects, "digits", start, stop) == expected


def test_an_empty_object_is_read(objects: Objects) -> None:
    objects.put("empty", b"")
    assert content_of(objects, "empty") == b""
    assert whole(objects, "empty") == b""


@pytest.mark.parametrize("size", [0, 1, 8 << 20, LARGE], ids=["empty", "a byte", "one part", "several parts"])
def test_a_file_is_taken_in(objects: Objects, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    path, fd = spooled(tmp_path, content)
    objects.take_in("blobs/x", path, fd)
    os.close(fd)
    assert not os.path.lexists(path)
    pieces = [*objects.pieces("blobs/x")]
    assert b"".join(pieces) == content
    assert max(map(len, pieces), default=0) <= 1 << 20


def test_a_file_that_is_taken_in_replaces_what_is_there(objects: Objects, tmp_path: Path) -> None:
    objects.put("blobs/x", b"damaged", immutable=True)
    path, fd = spooled(tmp_path, b"right")
    objects.take_in("blobs/x", path, fd)
    os.close(fd)
    assert content_of(objects, "blobs/x") == b"right"


def test_a_new_object_is_put_once(objects: Objects) -> None:
    objects.put("a", b"first", new=True)
    with pytest.raises(Conflict, match=r"/a .* already"):
        objects.put("a", b"second", new=True)
    assert content_of(objects, "a") == b"first"


def test_an_object_is_replaced_only_by_who_read_it_last(objects: Objects) -> None:
    objects.put("a", b"1")
    found = objects.get("a")
    assert found is not None
    objects.put("a", b"2", instead_of=found.version)
    with pytest.raises(Conflict, match="/a was changed by another writer"):
        objects.put("a", b"3", instead_of=found.version)
    assert content_of(objects, "a") == b"2"


def test_an_object_that_was_removed_is_not_replaced(objects: Objects) -> None:
    objects.put("a", b"1")
    found = objects.get("a")
    assert found is not None
    objects.remove("a")
    with pytest.raises(Conflict):
        objects.put("a", b"2", instead_of=found.version)
    assert objects.get("a") is None


def test_of_eight_writers_of_a_new_object_one_wins(objects: Objects) -> None:
    for key in (f"race/{number}" for number in range(15)):
        winners = raced(objects, key)
        assert len(winners) == 1
        assert content_of(objects, key) == winners[0]


def raced(objects: Objects, key: str, writers: int = 8) -> list[bytes]:
    """The contents of those who believe that theirs is the new object."""
    barrier, winners = threading.Barrier(writers), list[bytes]()

    def write(content: bytes) -> None:
        barrier.wait()
        try:
            objects.put(key, content, new=True)
        except Conflict:
            return
        winners.append(content)

    threads = [threading.Thread(target=write, args=(b"%d" % number,)) for number in range(writers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return winners


def test_no_increment_of_a_counter_is_lost(objects: Objects) -> None:
    objects.put("counter", b"0")

    def count() -> None:
        done = 0
        while done < 15:
            found = objects.get("counter")
            assert found is not None
            try:
                objects.put("counter", b"%d" % (int(found.content) + 1), instead_of=found.version)
            except Conflict:
                continue
            done += 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert content_of(objects, "counter") == b"60"


def test_marks_are_made_where_they_are_not_there(objects: Objects) -> None:
    objects.put("m/2", b"")
    objects.mark("m/1", "m/2", "m/3")
    assert objects.present("m", ["1", "2", "3", "4"]) == {"1", "2", "3"}
    assert objects.infos("m/3", "m/4").keys() == {"m/3"}


def test_what_is_renewed_is_young_and_as_it_was(objects: Objects) -> None:
    objects.put("m/1", b"")
    objects.put("m/2", b"content")
    before = {key: info.modified for key, info in objects.walk("m")}
    time.sleep(1.1)  # a clock may know whole seconds only
    assert objects.renew("m/1", "m/2", "m/3") == {"m/1", "m/2"}
    after = {key: info.modified for key, info in objects.walk("m")}
    assert before.keys() == after.keys()
    assert all(after[key] > before[key] for key in before)
    assert content_of(objects, "m/2") == b"content"


def test_an_object_is_moved(objects: Objects) -> None:
    objects.put("f/a", b"content")
    objects.put("quarantine/a", b"old")
    objects.move("f/a", "quarantine/a")
    assert objects.get("f/a") is None
    assert content_of(objects, "quarantine/a") == b"content"
    with pytest.raises(FileNotFoundError):
        objects.move("f/a", "quarantine/b")


def test_parsed_makes_the_same_value_until_the_object_changes(objects: Objects) -> None:
    made = []

    def parse(content: bytes) -> list[bytes] | None:
        made.append(content)
        return None if content == b"bad" else [content]

    objects.put("a", b"1")
    first = objects.parsed("a", parse)
    time.sleep(1.1)  # a folder reads again what was changed a moment ago
    kept = objects.parsed("a", parse)
    assert objects.parsed("a", parse) is kept
    assert first == kept == [b"1"]
    objects.put("a", b"22")
    assert objects.parsed("a", parse) == [b"22"]
    objects.put("a", b"bad")
    assert objects.parsed("a", parse) is None
    objects.remove("a")
    assert objects.parsed("a", parse) is None
    assert made[-1] == b"bad"


def test_many_are_removed_at_once(objects: Objects) -> None:
    keys = [f"many/{number}" for number in range(1_100)]
    objects.mark(*keys, "many/kept")
    objects.remove(*keys)
    assert [key for key, _ in objects.walk("many")] == ["many/kept"]


def test_its_clock_is_that_of_its_objects(objects: Objects) -> None:
    before = objects.now()
    objects.put("a", b"")
    info = objects.look("a")
    after = objects.now()
    assert info is not None
    assert before <= info.modified <= after + 1


def test_where_names_the_place(objects: Objects, tmp_path: Path) -> None:
    assert tmp_path.name in objects.where
    assert not any(secret in objects.where for secret in ENVIRONMENT.values())
