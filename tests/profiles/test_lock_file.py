"""`mirrorflow.lock`: written so that it can be compared, and read as a file from outside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from profiles.lock_file import LockDifference, LockedImage, LockFile, LockInvalid, json_schema
from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, THREE = (Digest.of(content) for content in (b"one", b"two", b"three"))


def image(
    digest: Digest, source: str = "library/nginx", tag: str = "1.27", registry: str = "hub"
) -> LockedImage:
    return LockedImage(registry, source, tag, digest)


LOCK = LockFile(
    {
        "library/nginx:1.27": image(ONE),
        "library/nginx:1.26": image(TWO, tag="1.26"),
        f"apps/web@{THREE}": image(THREE, "web", THREE, "quay"),
    }
)


def test_it_has_a_line_for_each_image_in_the_order_of_their_names() -> None:
    lines = LOCK.encoded().decode().splitlines()
    assert [line.strip().split(" ")[0] for line in lines[3:-2]] == [
        f'"apps/web@{THREE}":',
        '"library/nginx:1.26":',
        '"library/nginx:1.27":',
    ]


@pytest.mark.parametrize("lock", [LOCK, LockFile()], ids=["images", "none"])
def test_what_is_written_is_read_again(lock: LockFile, tmp_path: Path) -> None:
    path = tmp_path / "mirrorflow.lock"
    path.write_bytes(lock.encoded())
    assert LockFile.read(path) == lock


def test_what_is_written_fits_the_schema() -> None:
    schema, document = json_schema(), json.loads(LOCK.encoded())
    assert set(document) == set(schema["required"]) == set(schema["properties"])
    wanted = schema["properties"]["images"]["additionalProperties"]
    assert all(set(each) == set(wanted["required"]) for each in document["images"].values())


def test_two_locks_differ_in_what_was_added_moved_and_removed() -> None:
    now = LockFile({"library/nginx:1.27": image(THREE), "library/nginx:1.28": image(ONE, tag="1.28")})
    assert LOCK.compare(now, ["hub"]) == LockDifference(
        added={"library/nginx:1.28": ONE},
        moved={"library/nginx:1.27": (ONE, THREE)},
        removed={"library/nginx:1.26": TWO},
    )
    assert not LOCK.compare(LOCK, ["hub", "quay"])
    assert not LOCK.compare(LockFile(LOCK.of("hub")), ["hub"]), "what other entries bring is left aside"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("", "is not JSON", id="empty"),
        pytest.param("[]", "expected an object", id="a list"),
        pytest.param(
            '{"version": 2, "images": {}}', "its version is 2, and this mirrorflow knows 1", id="later"
        ),
        pytest.param('{"version": true, "images": {}}', "its version is True", id="a version that is none"),
        pytest.param('{"version": 1}', "expected the keys", id="no images"),
        pytest.param('{"version": 1, "images": {}, "more": 1}', "expected the keys", id="another key"),
        pytest.param(
            '{"version": 1, "images": {"a:1": {}}}', "expected registry, source", id="an empty image"
        ),
        pytest.param('{"version": 1, "version": 1, "images": {}}', "stands twice", id="a key twice"),
        pytest.param(
            json.dumps({"version": 1, "images": {"../a:1": image(ONE).to_json()}}),
            "is not a repository name",
            id="a path as name",
        ),
        pytest.param(
            json.dumps({"version": 1, "images": {"a:1": image(ONE).to_json() | {"digest": "sha256:1"}}}),
            "is not a digest",
            id="a digest that is none",
        ),
        pytest.param(
            json.dumps({"version": 1, "images": {"a:1": image(ONE).to_json() | {"source": "library/nginx"}}}),
            "is not a tag",
            id="a source without tag",
        ),
        pytest.param(
            json.dumps({"version": 1, "images": {"a:1": image(ONE).to_json() | {"registry": "a\x1b[2J"}}}),
            "expected texts",
            id="escape sequences",
        ),
    ],
)
def test_what_is_no_lock_is_refused_with_what_to_do(body: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mirrorflow.lock"
    path.write_text(body)
    with pytest.raises(LockInvalid, match=words) as refused:
        LockFile.read(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "'mirrorflow lock' writes it anew" in str(refused.value)


def test_a_lock_that_is_not_there_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(LockInvalid, match="No such file or directory; 'mirrorflow lock' writes it"):
        LockFile.read(tmp_path / "mirrorflow.lock")
