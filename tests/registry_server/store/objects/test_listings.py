"""What every implementation of `Objects` promises of its listings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from registry_server.store.objects.objects import Objects


def test_objects_and_folders_of_a_folder_are_told_apart(objects: Objects) -> None:
    for key in ("f/a", "f/b", "f/sub/c", "f/sub/deep/d", "f2/e"):
        objects.put(key, b"")
    found = objects.names("f")
    assert ({*found.objects}, {*found.folders}) == ({"a", "b"}, {"sub"})
    top = objects.names("")
    assert {"f", "f2"} <= {*top.folders}
    for has in (objects.has_folder, objects.has_objects):
        assert has("f/sub")
        assert not has("f/su")


def test_a_walk_gives_everything_below(objects: Objects) -> None:
    contents = {"w/a": b"1", "w/b/c": b"22", "w/b/d/e": b"", "w2/f": b"4444"}
    for key, content in contents.items():
        objects.put(key, content)
    sizes = {key: info.size for key, info in objects.walk("w")}
    assert sizes == {"w/a": 1, "w/b/c": 2, "w/b/d/e": 0}


def test_a_walk_has_the_version_that_a_look_has(objects: Objects) -> None:
    objects.put("w/a", b"1")
    [(key, walked)], looked = objects.walk("w"), objects.look("w/a")
    assert looked is not None
    assert (key, walked.size, walked.version) == ("w/a", looked.size, looked.version)
    # A HEAD tells whole seconds, a listing of Google's fractions of them.
    assert int(walked.modified) == int(looked.modified)


def test_contents_are_those_of_now_in_order(objects: Objects) -> None:
    for name in ("b", "a", "C", "10", "9"):
        objects.put(f"tags/{name}", name.encode())
    objects.put("tags/sub/x", b"of a folder")
    assert [*objects.contents("tags")] == [(name, name.encode()) for name in ("10", "9", "C", "a", "b")]
    objects.put("tags/a", b"changed")
    objects.remove("tags/b")
    assert dict(objects.contents("tags")) == {"10": b"10", "9": b"9", "C": b"C", "a": b"changed"}


@pytest.mark.parametrize(
    ("last", "limit", "expected"),
    [
        pytest.param("", None, ["1.0", "1.1", "2", "A", "a"], id="all"),
        pytest.param("", 2, ["1.0", "1.1"], id="the first page"),
        pytest.param("1.1", 2, ["2", "A"], id="the second page"),
        pytest.param("a", 2, [], id="after the last"),
        pytest.param("1.5", None, ["2", "A", "a"], id="after one that is not there"),
        pytest.param("", 0, [], id="none"),
    ],
)
def test_pages_of_names(objects: Objects, last: str, limit: int | None, expected: list[str]) -> None:
    for name in ("2", "1.1", "a", "1.0", "A", "-unwanted"):
        objects.put(f"tags/{name}", b"")
    objects.put("tags2/0", b"")
    assert objects.page("tags", lambda name: name[0] != "-", last=last, limit=limit) == expected


def test_the_version_of_a_folder_tells_of_objects_that_come_and_go(objects: Objects) -> None:
    seen = [objects.folder_version("f")]
    objects.put("f/a", b"")
    seen.append(objects.folder_version("f"))
    objects.put("f/b", b"")
    seen.append(objects.folder_version("f"))
    objects.remove("f/a")
    seen.append(objects.folder_version("f"))
    assert len({*seen}) == 4


def test_listings_are_whole_beyond_a_page(objects: Objects) -> None:
    names = sorted(f"{number:05}" for number in range(2_300))
    objects.mark(*(f"many/{name}" for name in names))
    assert len([*objects.walk("many")]) == 2_300
    assert len(objects.names("many").objects) == 2_300
    assert objects.page("many", bool, last="01999", limit=2) == ["02000", "02001"]
