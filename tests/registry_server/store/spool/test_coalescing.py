"""Several want one blob at once: it is filled once, by whoever is first, or next in line."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.errors import DigestMismatch
from registry_server.store.errors import StoreLocked, WaitCancelled
from registry_server.store.spool.incoming_blob import wait_for_turn
from registry_server.store.spool.incoming_files import IncomingFiles
from tests.registry_server.store.images import layer
from tests.registry_server.store.spool.receiving import BLOB, CONTENT, incoming_file, receive, tell
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store


def test_a_blob_of_the_pool_is_adopted(nginx: Repository, other: Repository) -> None:
    receive(nginx)
    with other.receive_blob(BLOB) as incoming:
        assert incoming.complete
        incoming.commit()
    assert other.has_blob(BLOB.digest)


def test_a_look_for_what_the_pool_lacks_writes_nothing(store: Store, nginx: Repository) -> None:
    """A first mirror looks for every blob before it brings it."""
    (store.root / "staging").rmdir()
    assert not nginx.adopt_blob(BLOB.digest)
    assert not (store.root / "staging").exists()


def test_who_comes_second_waits_and_finds_the_blob_complete(nginx: Repository, other: Repository) -> None:
    asked, results = threading.Event(), []

    def wait() -> None:
        with other.receive_blob(BLOB, cancelled=tell(asked)) as incoming:
            results.append(incoming.complete)

    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT[:100])
        thread = threading.Thread(target=wait)
        thread.start()
        assert asked.wait(60)
        incoming.write(CONTENT[100:])
        incoming.commit()
    thread.join()
    assert results == [True]
    assert other.has_blob(BLOB.digest)


def test_who_comes_second_takes_over_when_the_first_gives_up(nginx: Repository, other: Repository) -> None:
    asked, results = threading.Event(), []

    def wait() -> None:
        with other.receive_blob(BLOB, cancelled=tell(asked)) as incoming:
            results.append(incoming.offset)
            incoming.write(CONTENT[incoming.offset :])
            incoming.commit()

    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT[:100])
        thread = threading.Thread(target=wait)
        thread.start()
        assert asked.wait(60)
    thread.join()
    assert results == [100]
    assert file_of(other, BLOB.digest).read_bytes() == CONTENT
    assert not nginx.has_blob(BLOB.digest)


def test_who_comes_second_takes_over_when_the_first_got_wrong_bytes(
    nginx: Repository, other: Repository
) -> None:
    asked, results = threading.Event(), []

    def wait() -> None:
        with other.receive_blob(BLOB, cancelled=tell(asked)) as incoming:
            results.append(incoming.offset)

    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT.swapcase())
        thread = threading.Thread(target=wait)
        thread.start()
        assert asked.wait(60)
        with pytest.raises(DigestMismatch):
            incoming.commit()
    thread.join()
    assert results == [0]


def test_who_waits_can_be_told_to_stop(nginx: Repository, other: Repository) -> None:
    with (
        nginx.receive_blob(BLOB),
        pytest.raises(WaitCancelled),
        other.receive_blob(BLOB, cancelled=lambda: True),
    ):
        pass


def test_who_waits_too_long_is_told_so(nginx: Repository, other: Repository) -> None:
    with (
        nginx.receive_blob(BLOB),
        pytest.raises(StoreLocked, match=BLOB.digest),
        other.receive_blob(BLOB, timeout=0),
    ):
        pass


# What may happen between looking, opening and locking: each step of a waiter meets another writer's.


def take_turn(nginx: Repository, meanwhile: Callable[[], object], *, opened: bool) -> int | None:
    """Ask for the turn; once, right before or after the incoming file is opened, `meanwhile` happens."""
    left = [meanwhile]

    class Watched(IncomingFiles):
        def open(self, digest: Digest) -> int:
            if left and not opened:
                left.pop()()
            fd = super().open(digest)
            if left and opened:
                left.pop()()
            return fd

    files = Watched(nginx._root.spool)
    look = partial(nginx._pool.size, BLOB.digest)
    return wait_for_turn(nginx._pool, files, BLOB, look, cancelled=lambda: False, timeout=None)


@pytest.mark.parametrize("opened", [False, True], ids=["before-the-open", "after-the-open"])
def test_a_blob_that_another_one_completes_while_we_open_it_is_not_fetched_again(
    store: Store, nginx: Repository, other: Repository, *, opened: bool
) -> None:
    assert take_turn(nginx, lambda: receive(other), opened=opened) is None
    assert not incoming_file(store).exists()


def test_an_incoming_file_that_was_thrown_away_while_we_opened_it_is_not_filled(
    store: Store, nginx: Repository
) -> None:
    fd = take_turn(nginx, lambda: incoming_file(store).unlink(), opened=True)
    assert fd is not None
    assert os.fstat(fd).st_ino == incoming_file(store).stat().st_ino
    os.close(fd)


def test_an_incoming_file_that_was_replaced_while_we_opened_it_is_not_filled(
    store: Store, nginx: Repository
) -> None:
    path = incoming_file(store)
    fd = take_turn(nginx, lambda: [path.rename(store.root / "away"), path.write_bytes(b"")], opened=True)
    assert fd is not None
    assert os.fstat(fd).st_ino == path.stat().st_ino
    os.close(fd)


def test_adopters_and_a_committer_at_once_never_lose_the_marker(store: Store, nginx: Repository) -> None:
    """An adoption that finds nothing must not take away the marker of a commit meanwhile."""
    for number in range(60):
        content = b"%d" % number
        descriptor = layer(content)
        stop = threading.Event()

        def adopt(digest: Digest = descriptor.digest, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                nginx.adopt_blob(digest)

        threads = [threading.Thread(target=adopt) for _ in range(3)]
        for thread in threads:
            thread.start()
        receive(nginx, content, descriptor)
        assert nginx.has_blob(descriptor.digest)
        stop.set()
        for thread in threads:
            thread.join()
        assert nginx.has_blob(descriptor.digest)
