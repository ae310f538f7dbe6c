"""Snapshots of a folder of small objects: what is read again, and what is written, however many there are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest

from registry_server.store.objects.objects import ObjectInfo, StoredObject
from registry_server.store.objects.small_objects import SmallObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from registry_server.store.objects.bucket import Bucket

FOLDER = "repos/a/_r/tags"
MANY = 2_500


class Held:
    """Objects in memory, and what was asked of them: each has a version that tells its content."""

    def __init__(self, number: int = 0) -> None:
        self.contents = {f"{FOLDER}/v{each}": f"record {each}".encode() for each in range(number)}
        self.asked: Counter[str] = Counter()

    def get(self, key: str) -> StoredObject | None:
        self.asked["get snapshot" if key.startswith("snapshots/") else "get"] += 1
        content = self.contents.get(key)
        return None if content is None else StoredObject(content, f"version of {content!r}")

    def put(self, key: str, content: bytes) -> None:
        self.asked["put snapshot" if key.startswith("snapshots/") else "put"] += 1
        self.contents[key] = content

    def directly_in(self, folder: str) -> Iterator[tuple[str, ObjectInfo]]:
        self.asked["list"] += 1
        for key, content in sorted(self.contents.items()):
            if key.startswith(f"{folder}/"):
                yield key, ObjectInfo(len(content), 0.0, f"version of {content!r}")

    def each(self, call: Callable[[str], object], values: Iterable[str]) -> list[object]:
        return [call(each) for each in values]

    def process(self) -> SmallObjects:
        """One that knows nothing yet."""
        return SmallObjects(cast("Bucket", self), self.get, self.put)

    def taken(self) -> dict[str, int]:
        asked, self.asked = dict(self.asked), Counter()
        return asked


def write(held: Held, process: SmallObjects, name: str, content: bytes) -> None:
    held.contents[f"{FOLDER}/{name}"] = content
    process.written(f"{FOLDER}/{name}", f"version of {content!r}", content)


def test_a_snapshot_has_parts_of_some_thousand_names() -> None:
    held = Held(MANY)
    found = dict(held.process().contents(FOLDER))
    assert held.taken() == {"list": 1, "get": MANY, "get snapshot": 4, "put snapshot": 4}
    assert dict(held.process().contents(FOLDER)) == found
    assert held.taken() == {"list": 1, "get snapshot": 4}


def test_a_change_writes_one_part() -> None:
    held = Held(MANY)
    list(held.process().contents(FOLDER))
    process = held.process()
    write(held, process, "v7", b"another record")
    held.taken()
    process.leave_snapshot(FOLDER)
    assert held.taken() == {"list": 1, "get snapshot": 4, "put snapshot": 1}
    found = dict(held.process().contents(FOLDER))
    assert held.taken() == {"list": 1, "get snapshot": 4}
    assert found["v7"] == b"another record"
    assert found["v8"] == b"record 8"


def test_what_was_left_is_not_left_again() -> None:
    held = Held()
    process = held.process()
    write(held, process, "v1", b"one")
    process.leave_snapshot(FOLDER)
    assert held.taken() == {"list": 1, "put snapshot": 1}
    process.leave_snapshot(FOLDER)
    assert held.taken() == {}
    write(held, process, "v2", b"two")
    process.leave_snapshot(FOLDER)
    assert held.taken() == {"list": 1, "put snapshot": 1}


@pytest.mark.parametrize(("names", "grown"), [(900, 1_100), (2_500, 900)], ids=["grown", "shrunk"])
def test_a_snapshot_of_other_parts_is_made_anew(names: int, grown: int) -> None:
    held = Held(names)
    list(held.process().contents(FOLDER))
    held.contents |= Held(grown).contents
    for number in range(grown, names):
        del held.contents[f"{FOLDER}/v{number}"]
    assert len(list(held.process().contents(FOLDER))) == grown
    held.taken()
    assert len(list(held.process().contents(FOLDER))) == grown
    assert "get" not in held.taken()


def test_an_object_that_goes_while_it_is_read_is_left_out() -> None:
    held = Held(3)
    listed = held.directly_in

    def then_gone(folder: str) -> Iterator[tuple[str, ObjectInfo]]:
        yield from listed(folder)
        held.contents.pop(f"{FOLDER}/v1", None)

    held.directly_in = then_gone  # type: ignore[method-assign] # a bucket of which another process removes
    assert [name for name, _ in held.process().contents(FOLDER)] == ["v0", "v2"]
