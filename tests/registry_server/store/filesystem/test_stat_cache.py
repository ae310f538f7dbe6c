"""What is remembered of files is what they hold, whatever happens to them, however much there is of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreDamaged
from registry_server.store.filesystem.stat_cache import StatCache
from registry_server.store.store import Store
from tests.registry_server.store.images import image, put_image, record, tag_image
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG_AGO = 1_000_000_000


class Reader:
    """Counts how often something was made of a file or folder."""

    def __init__(self) -> None:
        self.times = 0

    def text(self, content: bytes) -> str:
        self.times += 1
        return content.decode()

    def wanted(self, name: str) -> bool:
        self.times += 1
        return not name.startswith(".")


def in_an_hour() -> float:
    """By this clock, whatever a test has written was written long ago."""
    return time.time() + 3600


@pytest.fixture
def remembered() -> StatCache:
    return StatCache(clock=in_an_hour)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tag"
    path.write_bytes(b"first")
    return path


def test_a_file_that_stays_as_it_is_is_read_once(remembered: StatCache, file: Path) -> None:
    reader = Reader()
    assert [remembered.file(str(file), reader.text) for _ in range(5)] == ["first"] * 5
    assert reader.times == 1


def replace(path: Path) -> None:
    """As the store does it."""
    staged = path.with_name("staged")
    staged.write_bytes(b"other")
    staged.replace(path)


def replace_by_the_same_age(path: Path) -> None:
    before = path.stat()
    replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write_in_place(path: Path) -> None:
    path.write_bytes(b"other")


def write_in_place_and_hide_it(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def link(path: Path) -> None:
    other = path.with_name("elsewhere")
    other.write_bytes(b"first")
    path.unlink()
    path.symlink_to(other)


def put_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param(replace, "other", id="another file of the same size"),
        pytest.param(replace_by_the_same_age, "other", id="another file of the same size and age"),
        pytest.param(write_in_place, "other", id="written in place: nobody should"),
        pytest.param(write_in_place_and_hide_it, "other", id="written in place, with its old time"),
        pytest.param(os.unlink, None, id="gone"),
        pytest.param(link, None, id="a planted link, to the very same content"),
        pytest.param(put_a_folder, None, id="a folder in its place"),
    ],
)
def test_a_file_that_was_changed_is_read_again(
    remembered: StatCache, file: Path, change: Callable[[Path], None], found: str | None
) -> None:
    assert remembered.file(str(file), Reader().text) == "first"
    change(file)
    assert remembered.file(str(file), Reader().text) == found


def test_what_was_written_a_moment_ago_is_read_again_each_time(file: Path) -> None:
    """Within one tick of the clock, a second change would leave inode, size and times as they are."""
    reader, now = Reader(), file.stat().st_ctime + 0.5
    young = StatCache(clock=lambda: now)
    assert [young.file(str(file), reader.text) for _ in range(3)] == ["first"] * 3
    assert reader.times == 3


def test_what_nothing_could_be_made_of_is_asked_again(remembered: StatCache, file: Path) -> None:
    answers = iter([None, "now"])
    assert remembered.file(str(file), lambda _: next(answers)) is None
    assert remembered.file(str(file), lambda _: next(answers)) == "now"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param(lambda folder: (folder / "c").touch(), ["a", "b", "c"], id="one more"),
        pytest.param(lambda folder: (folder / "a").unlink(), ["b"], id="one less"),
        pytest.param(lambda folder: (folder / "a").rename(folder / "z"), ["b", "z"], id="another name"),
    ],
)
def test_a_folder_is_listed_again_when_its_names_change(
    remembered: StatCache, tmp_path: Path, change: Callable[[Path], None], found: list[str]
) -> None:
    folder, reader = tmp_path / "tags", Reader()
    folder.mkdir()
    for name in ("a", "b", ".nfs0001"):
        (folder / name).touch()
    assert [listed(remembered, folder, reader) for _ in range(3)] == [["a", "b"]] * 3
    assert reader.times == 3, "one look at each name"
    change(folder)
    assert listed(remembered, folder, reader) == found


def listed(remembered: StatCache, folder: Path, reader: Reader) -> list[str]:
    found = remembered.folder(str(folder), reader.wanted)
    assert found is not None
    return found.page()


@pytest.mark.parametrize(
    "listings",
    [
        pytest.param(32 * 1024 * 1024, id="26,215 were too many, when each was counted as 80 bytes of 4 MiB"),
        pytest.param(1000, id="more than the limit: to read it again would take ten times the memory"),
    ],
)
def test_a_listing_is_kept_however_many_names_it_has(tmp_path: Path, listings: int) -> None:
    remembered = StatCache(clock=in_an_hour, listings=listings)
    folder, reader, count = tmp_path / "tags", Reader(), 40_000
    folder.mkdir()
    for number in range(count):
        (folder / f"v{number:07}-alpine").touch()
    for _ in range(3):
        found = remembered.folder(str(folder), reader.wanted)
        assert found is not None
        assert found.page(last="v0000500", limit=2) == ["v0000500-alpine", "v0000501-alpine"]
    assert reader.times == count


def test_listings_and_files_do_not_push_each_other_out(tmp_path: Path) -> None:
    folder, listings, reader = tmp_path / "tags", Reader(), Reader()
    folder.mkdir()
    (folder / "a").touch()
    limited = StatCache(limit=2_000, clock=in_an_hour, listings=2_000)
    for number in range(10):
        path = tmp_path / str(number)
        path.write_bytes(b"x")
        limited.file(str(path), reader.text)
        limited.folder(str(folder), listings.wanted)
    assert (reader.times, listings.times) == (10, 1)


def test_memory_is_bounded_and_what_is_used_stays(tmp_path: Path) -> None:
    limited, reader = StatCache(limit=10_000, clock=in_an_hour), Reader()
    used = tmp_path / "used"
    used.write_bytes(b"u" * 100)
    for number in range(100):
        path = tmp_path / str(number)
        path.write_bytes(b"x" * 100)
        limited.file(str(path), bytes.decode)
        limited.file(str(used), reader.text)
    assert reader.times == 1
    assert len(limited._files) <= 25


def test_what_alone_would_take_most_of_the_memory_is_not_kept(tmp_path: Path) -> None:
    limited, reader = StatCache(limit=10_000, clock=in_an_hour), Reader()
    (tmp_path / "large").write_bytes(b"x" * 5001)
    for _ in range(2):
        assert limited.file(str(tmp_path / "large"), reader.text) == "x" * 5001
    assert reader.times == 2


def wait_until_settled(path: Path) -> None:
    while time.time() - path.stat().st_ctime <= 1.1:
        time.sleep(0.05)


def test_a_store_notices_what_others_change_under_what_it_remembers(tmp_path: Path) -> None:
    """Invariants 1 to 3, with everything remembered: another process moves a tag, takes a manifest away and
    damages the other one."""
    name = RepositoryName("library/nginx")
    here, elsewhere = (Store.open(tmp_path, durability="none").repository(name) for _ in range(2))
    first, second = tag_image(elsewhere, "1", b"first"), put_image(elsewhere, b"second")
    tag = tmp_path / "repos/library/nginx/_r/tags/1"
    wait_until_settled(tag)
    for reference in (Tag("1"), first.digest, second.digest):
        here.read_manifest(reference)

    elsewhere.put_tag(Tag("1"), record(second))
    assert here.read_manifest(Tag("1"))[1] == image(b"second").body
    elsewhere.delete_manifest(first.digest)
    assert not here.has_blob(first.digest)
    path = file_of(here, second.digest)
    path.chmod(0o644)
    path.write_bytes(bytes(len(image(b"second").body)))
    with pytest.raises(StoreDamaged, match="is damaged"):
        here.read_manifest(second.digest)
