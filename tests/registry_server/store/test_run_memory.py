"""What a process remembers of object storage while it holds a lease, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import PollRecord
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.run_memory import RunMemory
from registry_server.store.store import Store
from tests.registry_server.store.images import layer, put_image, record, tag_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.store.repository import Repository
    from tests.support.object_storage import S3Server

REMOTE_ONLY = pytest.mark.parametrize("store", ["s3"], indirect=True)
MANY = 40


class Questions:
    """Something that can be asked, and counts how often it was."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> dict[str, int]:
        self.asked += 1
        return {"asked": self.asked}


def test_an_answer_is_remembered_until_the_lease_ends() -> None:
    memory, questions = RunMemory(works=True), Questions()
    with memory.during_lease():
        assert [memory.lately("a", questions)["asked"] for _ in range(3)] == [1, 1, 1]
        assert memory.lately("b", questions)["asked"] == 2
    with memory.during_lease():
        assert memory.lately("a", questions)["asked"] == 3


@pytest.mark.parametrize("works", [True, False], ids=["without a lease", "where it does not work"])
def test_nothing_is_remembered(*, works: bool) -> None:
    memory, questions = RunMemory(works=works), Questions()
    assert [memory.lately("a", questions)["asked"] for _ in range(2)] == [1, 2]
    memory.seen_absent("blobs/x")
    assert not memory.was_absent("blobs/x")
    assert memory.listed("folder", questions) is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda memory: memory.forget("tags/1"), id="an object of it"),
        pytest.param(lambda memory: memory.amend("tags", lambda held: held.clear()), id="the folder"),
    ],
)
def test_what_changes_while_it_is_asked_for_is_asked_for_again(change: Callable[[RunMemory], None]) -> None:
    """The answer may be of the moment before the change."""
    memory, questions = RunMemory(works=True), Questions()

    def overtaken() -> dict[str, int]:
        found = questions()
        change(memory)
        return found

    with memory.during_lease():
        assert memory.lately("tags", overtaken)["asked"] == 1
        assert [memory.lately("tags", questions)["asked"] for _ in range(2)] == [2, 2]


def test_an_answer_that_took_long_is_good_for_longer() -> None:
    """The listing of a very large repository would be made again and again."""
    now = 0.0

    def slow_question() -> str:
        nonlocal now
        now += 30.0
        return "listed"

    memory = RunMemory(works=True, clock=lambda: now)
    with memory.during_lease():
        memory.lately("slow", slow_question)
        memory.lately("quick", lambda: "listed")
        now += 300.0
        assert memory.lately("slow", lambda: "listed again") == "listed"
        assert memory.lately("quick", lambda: "listed again") == "listed again"


def test_the_end_of_one_lease_forgets_what_another_remembers_as_well() -> None:
    memory, questions = RunMemory(works=True), Questions()
    with memory.during_lease():
        with memory.during_lease():
            memory.lately("a", questions)
        assert memory.lately("a", questions)["asked"] == 2


def test_a_folder_is_listed_once_it_was_asked_about_several_times() -> None:
    memory, questions = RunMemory(works=True), Questions()
    with memory.during_lease():
        answers = [memory.listed("folder", questions) for _ in range(5)]
    assert answers == [None, None, *[{"asked": 1}] * 3]


def test_a_change_is_known_at_once() -> None:
    memory, questions = RunMemory(works=True), Questions()
    with memory.during_lease():
        memory.lately("tags", questions)
        memory.amend("tags", lambda held: held.update(new=7))
        assert memory.lately("tags", questions) == {"asked": 1, "new": 7}
        memory.forget("tags/new")
        assert memory.lately("tags", questions) == {"asked": 2}
        memory.seen_absent("blobs/x")
        memory.forget("blobs/x")
        assert not memory.was_absent("blobs/x")


def fill(nginx: Repository) -> None:
    descriptor = put_image(nginx, b"layer")
    for number in range(MANY):
        nginx.put_tag(Tag(f"v{number}"), record(descriptor))


def anew(store: Store) -> Repository:
    """The same repository, for a process that knows nothing yet."""
    driver = store.roots[0].objects._bucket.driver  # type: ignore[attr-defined] # it is in a bucket
    return Store.open(store.root, remote=RemoteStorage(driver)).repository(RepositoryName("library/nginx"))


@REMOTE_ONLY
def test_unchanged_tags_cost_a_listing_and_not_a_request_each(
    store: Store, nginx: Repository, bucket: S3Server
) -> None:
    fill(nginx)
    bucket.new_requests()
    with store.lease():
        held = [nginx.tag(Tag(f"v{number}")) for number in range(MANY)]
    assert None not in held
    assert len(bucket.new_requests()) <= 4


@REMOTE_ONLY
def test_a_process_that_begins_anew_reads_a_snapshot_instead_of_every_tag(
    store: Store, nginx: Repository, bucket: S3Server
) -> None:
    fill(nginx)
    expected = nginx.tag_records()
    assert anew(store).tag_records() == expected  # which leaves the snapshot
    second = anew(store)
    bucket.new_requests()
    assert second.tag_records() == expected
    assert [each.partition(" ")[0] for each in bucket.new_requests()] == ["ListObjectsV2", "GetObject"]


@REMOTE_ONLY
def test_who_polled_leaves_a_snapshot_of_the_tags_that_it_has_set(
    store: Store, nginx: Repository, bucket: S3Server
) -> None:
    fill(nginx)
    nginx.put_poll(PollRecord("upstream", 1.0))
    second = anew(store)
    bucket.new_requests()
    assert len(second.tag_records()) == MANY
    assert [each.partition(" ")[0] for each in bucket.new_requests()] == ["ListObjectsV2", "GetObject"]


@REMOTE_ONLY
def test_who_polled_and_changed_no_tag_leaves_the_snapshot_as_it_is(
    store: Store, nginx: Repository, bucket: S3Server
) -> None:
    fill(nginx)
    nginx.put_poll(PollRecord("upstream", 1.0))
    second = anew(store)
    with store.lease():
        assert len(second.tag_records()) == MANY
        assert second.poll("upstream") is not None
        bucket.new_requests()
        second.put_poll(PollRecord("upstream", 2.0))
    assert [each.rpartition("/")[2] for each in bucket.new_requests()] == ["_r.json"] * 2


@REMOTE_ONLY
def test_expected_questions_are_answered_by_one_listing(
    store: Store, nginx: Repository, bucket: S3Server
) -> None:
    fill(nginx)
    bucket.new_requests()
    with store.lease():
        nginx.expect(MANY)
        assert nginx.tag(Tag("v1")) is not None
        assert nginx.tag(Tag("v2")) is not None
    assert [each.partition(" ")[0] for each in bucket.new_requests()] == ["ListObjectsV2"]


@REMOTE_ONLY
@pytest.mark.parametrize("content", [b"", b"no JSON", b"[1]", b'{"v1": 7}', b'{"v1": ["x", 7]}'])
def test_a_damaged_snapshot_is_none(store: Store, nginx: Repository, content: bytes) -> None:
    fill(nginx)
    expected = anew(store).tag_records()
    store.roots[0].objects.put("snapshots/repos/library/nginx/_r/tags/1-0", content)
    assert anew(store).tag_records() == expected


@REMOTE_ONLY
def test_what_changed_since_the_snapshot_is_read(store: Store, nginx: Repository) -> None:
    fill(nginx)
    anew(store).tag_records()
    moved = tag_image(nginx, "v1", b"another layer")
    nginx.delete_tag(Tag("v2"))
    found = anew(store).tag_records()
    assert found[Tag("v1")].digest == moved.digest
    assert Tag("v2") not in found
    assert len(found) == MANY - 1


@REMOTE_ONLY
def test_what_this_process_changes_it_sees_at_once(store: Store, nginx: Repository) -> None:
    fill(nginx)
    with store.lease():
        for number in range(5):
            nginx.tag(Tag(f"v{number}"))
        moved = tag_image(nginx, "v1", b"another layer")
        nginx.delete_tag(Tag("v2"))
        held = nginx.tag(Tag("v1"))
        assert held is not None
        assert held.digest == moved.digest
        assert nginx.tag(Tag("v2")) is None


@REMOTE_ONLY
@pytest.mark.parametrize("by", ["withdraw", "delete_manifest"])
def test_what_this_process_takes_away_with_its_manifest_it_sees_at_once(
    store: Store, nginx: Repository, by: str
) -> None:
    gone = tag_image(nginx, "v1", b"one layer")
    tag_image(nginx, "v2", b"another layer")
    with store.lease():
        for _ in range(5):
            assert nginx.tag(Tag("v1")) is not None
            assert nginx.has_blob(gone.digest)
        if by == "withdraw":
            nginx.withdraw({Tag("v1"): record(gone)}, [gone.digest])
        else:
            nginx.delete_manifest(gone.digest)
        assert nginx.tag(Tag("v1")) is None
        assert nginx.tag(Tag("v2")) is not None
        assert not nginx.has_blob(gone.digest)


@REMOTE_ONLY
def test_a_blob_that_was_absent_a_moment_ago_is_still_not_fetched_twice(
    store: Store, nginx: Repository, other: Repository
) -> None:
    content = b"brought by another process"
    with store.lease():
        assert not nginx.adopt_blob(layer(content).digest)
        anew(store).put_blob(layer(content), content)
        assert not nginx.adopt_blob(layer(content).digest)  # remembered
        with nginx.receive_blob(layer(content)) as incoming:
            assert incoming.complete
        assert nginx.has_blob(layer(content).digest)
    assert not other.has_blob(layer(content).digest)
