"""Deleting from a bucket, step by step, between the steps of a writer on another host."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.registry_server.store.gc.collecting import age, in_pool
from tests.registry_server.store.images import layer
from tests.support.stored_files import forget

if TYPE_CHECKING:
    from registry_server.store.pool.blob_pool import Trash
    from registry_server.store.repository import Repository

pytestmark = pytest.mark.parametrize("store", ["s3"], indirect=True)
CONTENT = b"a blob that nobody needs, for now"
BLOB = layer(CONTENT)


@pytest.fixture
def trash(store: Store, nginx: Repository) -> Trash:
    """The trash, with a blob in it that was there for a day and that nobody needs."""
    nginx.put_blob(BLOB, CONTENT)
    nginx.delete_blob(BLOB.digest)
    age(store)
    found = store.roots[0].pool.trash
    assert found.take([BLOB.digest]) == {BLOB.digest}
    return found


@pytest.fixture
def writer(store: Store, trash: Trash) -> Repository:
    """A repository, as a process on another host sees it."""
    driver = store.roots[0].objects._bucket.driver  # type: ignore[attr-defined] # it is in a bucket
    return Store.open(store.root, remote=RemoteStorage(driver)).repository(RepositoryName("library/other"))


def test_what_nobody_relies_on_is_deleted(store: Store, trash: Trash) -> None:
    assert trash.purge([*trash.content()]) == len(CONTENT)
    assert not store.roots[0].objects.has_objects("blobs")
    assert [*trash.content()] == []


def test_what_is_in_the_trash_can_be_read_and_adopted(store: Store, trash: Trash, writer: Repository) -> None:
    assert not in_pool(store, CONTENT)
    assert writer.adopt_blob(BLOB.digest)
    assert in_pool(store, CONTENT)
    assert writer.find_blob(BLOB.digest).read(100) == CONTENT


@pytest.mark.parametrize("how", ["adopted", "received", "put"])
def test_what_a_writer_relies_on_after_the_collector_listed_it_stays(
    store: Store, trash: Trash, writer: Repository, how: str
) -> None:
    listed = [*trash.content()]
    if how == "adopted":
        assert writer.adopt_blob(BLOB.digest)
    elif how == "received":
        with writer.receive_blob(BLOB) as incoming:
            assert incoming.complete
    else:
        writer.put_blob(BLOB, CONTENT)
    assert trash.purge(listed) == 0
    forget(store)
    assert writer.find_blob(BLOB.digest).read(100) == CONTENT


def test_what_a_writer_wants_after_it_was_deleted_it_has_to_bring(trash: Trash, writer: Repository) -> None:
    trash.purge([*trash.content()])
    assert not writer.adopt_blob(BLOB.digest)
    with writer.receive_blob(BLOB) as incoming:
        assert not incoming.complete
        incoming.write(CONTENT)
        incoming.commit()
    assert writer.find_blob(BLOB.digest).read(100) == CONTENT


def test_who_relies_on_a_blob_waits_while_blobs_are_deleted(
    store: Store, trash: Trash, writer: Repository
) -> None:
    done = threading.Event()

    def adopt() -> None:
        writer.adopt_blob(BLOB.digest)
        done.set()

    thread = threading.Thread(target=adopt)
    with store.roots[0].turns.alone("blobs"):
        thread.start()
        assert not done.wait(0.3)
    assert done.wait(10)
    thread.join()


def test_a_collector_killed_between_blob_and_tombstone_is_followed_by_one_that_ends_it(
    store: Store, trash: Trash
) -> None:
    store.roots[0].objects.remove(*(key for key, _ in store.roots[0].objects.walk("blobs")))
    assert trash.purge([*trash.content()]) == 0
    assert [*trash.content()] == []
