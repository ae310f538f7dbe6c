"""Blobs on their way in: resumption, coalescing, and every way to be wrong."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch, SizeMismatch
from registry_server.store.errors import StoreLocked, WaitCancelled
from registry_server.store.incoming import wait_for_turn
from tests.registry_server.store.images import files_below, layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

CONTENT = bytes(range(256)) * 20
BLOB = layer(CONTENT)


def incoming_file(store: Store, descriptor: Descriptor = BLOB) -> Path:
    return store.root / "incoming" / descriptor.digest.replace(":", "-")


def tell(asked: threading.Event) -> Callable[[], bool]:
    """A `cancelled` that says when it is asked, i.e. when somebody waits."""

    def cancelled() -> bool:
        asked.set()
        return False

    return cancelled


def receive(repository: Repository, content: bytes = CONTENT, descriptor: Descriptor = BLOB) -> int:
    """Fill the blob from where it stands; the offset at which that was."""
    with repository.receive_blob(descriptor) as incoming:
        start = incoming.offset
        if not incoming.complete:
            incoming.write(content[start:])
            incoming.commit()
    return start


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_a_blob_is_received_in_pieces_of_any_kind(
    store: Store, nginx: Repository, wrap: type[bytes | bytearray | memoryview]
) -> None:
    with nginx.receive_blob(BLOB) as incoming:
        for start in range(0, len(CONTENT), 1000):
            incoming.write(wrap(CONTENT[start : start + 1000]))
        assert not nginx.has_blob(BLOB.digest)
        incoming.commit()
        assert incoming.complete
    assert nginx.find_blob(BLOB.digest).path.read_bytes() == CONTENT
    assert not incoming_file(store).exists()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["empty", "one-byte", "some"])
def test_blobs_of_each_algorithm_and_size(nginx: Repository, algorithm: str, content: bytes) -> None:
    descriptor = replace(layer(content), digest=Digest.of(content, algorithm))
    assert receive(nginx, content, descriptor) == 0
    assert nginx.find_blob(descriptor.digest).size == len(content)


def test_what_is_left_behind_is_hashed_and_continued(store: Store, nginx: Repository) -> None:
    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT[:1234])
    assert incoming_file(store).stat().st_mode & 0o777 == 0o600
    assert receive(nginx) == 1234
    assert nginx.find_blob(BLOB.digest).path.read_bytes() == CONTENT


def test_what_an_error_left_behind_is_continued_by_another_repository(
    nginx: Repository, other: Repository
) -> None:
    def break_off() -> None:
        with nginx.receive_blob(BLOB) as incoming:
            incoming.write(CONTENT[:10])
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):  # an OSError of the caller's, and not turned into ours
        break_off()
    assert receive(other) == 10
    assert not nginx.has_blob(BLOB.digest)
    assert receive(nginx) == len(CONTENT)


def test_a_blob_that_was_whole_but_not_committed_needs_no_fetching(nginx: Repository) -> None:
    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT)
    with nginx.receive_blob(BLOB) as incoming:
        assert incoming.complete
        assert incoming.offset == BLOB.size
    assert nginx.has_blob(BLOB.digest)


@pytest.mark.parametrize(
    ("left", "offset"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(CONTENT[:5], 5, id="a-part"),
        pytest.param(CONTENT.swapcase(), 0, id="as-long-and-wrong"),
        pytest.param(CONTENT + b"!", 0, id="too-long"),
    ],
)
def test_leftovers_of_any_kind_end_well(store: Store, nginx: Repository, left: bytes, offset: int) -> None:
    incoming_file(store).write_bytes(left)
    assert receive(nginx) == offset
    assert nginx.find_blob(BLOB.digest).path.read_bytes() == CONTENT


def test_leftovers_that_are_wrong_cost_one_attempt(store: Store, nginx: Repository) -> None:
    incoming_file(store).write_bytes(b"wrong")
    with pytest.raises(DigestMismatch):
        receive(nginx)
    assert receive(nginx) == 0


def test_starting_over_forgets_what_was_there(store: Store, nginx: Repository) -> None:
    incoming_file(store).write_bytes(b"wrong")
    with nginx.receive_blob(BLOB) as incoming:
        incoming.restart()
        assert incoming.offset == 0
        incoming.write(CONTENT)
        incoming.commit()
    assert nginx.find_blob(BLOB.digest).path.read_bytes() == CONTENT


# Invariant 2: wrong bytes never get a name.


def test_a_wrong_digest_leaves_no_trace(store: Store, nginx: Repository) -> None:
    before = files_below(store.root)
    with pytest.raises(DigestMismatch) as caught:
        receive(nginx, CONTENT.swapcase())
    assert caught.value.actual == Digest.of(CONTENT.swapcase())
    assert files_below(store.root) == before
    assert not nginx.has_blob(BLOB.digest)


def test_a_body_that_is_too_long_is_refused_at_the_first_byte_too_many(
    store: Store, nginx: Repository
) -> None:
    before = files_below(store.root)
    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT)
        with pytest.raises(SizeMismatch, match=f"at least {BLOB.size + 1}"):
            incoming.write(b"!")
    assert files_below(store.root) == before


def test_a_piece_that_would_be_too_long_is_not_written_at_all(store: Store, nginx: Repository) -> None:
    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT[:10])
        with pytest.raises(SizeMismatch):
            incoming.write(CONTENT)
    assert not incoming_file(store).exists()


def test_a_short_body_is_refused_and_kept_for_the_next(store: Store, nginx: Repository) -> None:
    with pytest.raises(SizeMismatch, match=f"expected {BLOB.size} bytes, got 100"):
        receive(nginx, CONTENT[:100])
    assert not nginx.has_blob(BLOB.digest)
    assert incoming_file(store).stat().st_size == 100
    assert receive(nginx) == 100


def test_after_a_refusal_the_blob_cannot_be_used_any_more(nginx: Repository) -> None:
    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT.swapcase())
        with pytest.raises(DigestMismatch):
            incoming.commit()
        with pytest.raises(RuntimeError, match="closed"):
            incoming.write(b"")


def test_leaving_before_the_first_byte_leaves_no_trace(store: Store, nginx: Repository) -> None:
    before = files_below(store.root)
    with nginx.receive_blob(BLOB):
        pass
    assert files_below(store.root) == before


def test_a_descriptor_with_another_size_than_the_blob_of_its_digest_is_refused(nginx: Repository) -> None:
    receive(nginx)
    with pytest.raises(SizeMismatch), nginx.receive_blob(replace(BLOB, size=1)):
        pass
    assert nginx.find_blob(BLOB.digest).path.read_bytes() == CONTENT


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT + b"!"], ids=["empty", "short", "long"])
def test_a_damaged_blob_of_the_pool_is_fetched_again(nginx: Repository, damaged: bytes) -> None:
    receive(nginx)
    path = nginx.find_blob(BLOB.digest).path
    path.chmod(0o644)
    path.write_bytes(damaged)
    assert receive(nginx) == 0
    assert path.read_bytes() == CONTENT


# Coalescing.


def test_a_blob_of_the_pool_is_adopted(nginx: Repository, other: Repository) -> None:
    receive(nginx)
    with other.receive_blob(BLOB) as incoming:
        assert incoming.complete
        incoming.commit()
    assert other.has_blob(BLOB.digest)


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
    assert other.find_blob(BLOB.digest).path.read_bytes() == CONTENT
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

    def open_file(path: str) -> int:
        if left and not opened:
            left.pop()()
        fd = nginx._open_incoming(path)
        if left and opened:
            left.pop()()
        return fd

    return wait_for_turn(nginx._pool, BLOB, open_file=open_file, cancelled=lambda: False, timeout=None)


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
