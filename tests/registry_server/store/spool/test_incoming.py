"""Blobs on their way in: resumption, and every way to be wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch, SizeMismatch
from tests.registry_server.store.images import files_below, layer
from tests.registry_server.store.spool.receiving import BLOB, CONTENT, incoming_file, receive
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store


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
    assert file_of(nginx, BLOB.digest).read_bytes() == CONTENT
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
    assert file_of(nginx, BLOB.digest).read_bytes() == CONTENT


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
    assert file_of(nginx, BLOB.digest).read_bytes() == CONTENT


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
    assert file_of(nginx, BLOB.digest).read_bytes() == CONTENT


# Invariant 2: wrong bytes never get a name.


def files_of(store: Store) -> set[str]:
    """Without the one that is locked for a look into the pool, where that is in a bucket."""
    return {str(each) for each in files_below(store.root) if Path(each).name != "blobs"}


def test_a_wrong_digest_leaves_no_trace(store: Store, nginx: Repository) -> None:
    before = files_of(store)
    with pytest.raises(DigestMismatch) as caught:
        receive(nginx, CONTENT.swapcase())
    assert caught.value.actual == Digest.of(CONTENT.swapcase())
    assert files_of(store) == before
    assert not nginx.has_blob(BLOB.digest)


def test_a_body_that_is_too_long_is_refused_at_the_first_byte_too_many(
    store: Store, nginx: Repository
) -> None:
    before = files_of(store)
    with nginx.receive_blob(BLOB) as incoming:
        incoming.write(CONTENT)
        with pytest.raises(SizeMismatch, match=f"at least {BLOB.size + 1}"):
            incoming.write(b"!")
    assert files_of(store) == before


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
    before = files_of(store)
    with nginx.receive_blob(BLOB):
        pass
    assert files_of(store) == before


def test_a_descriptor_with_another_size_than_the_blob_of_its_digest_is_refused(nginx: Repository) -> None:
    receive(nginx)
    with pytest.raises(SizeMismatch), nginx.receive_blob(replace(BLOB, size=1)):
        pass
    assert file_of(nginx, BLOB.digest).read_bytes() == CONTENT


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT + b"!"], ids=["empty", "short", "long"])
def test_a_damaged_blob_of_the_pool_is_fetched_again(nginx: Repository, damaged: bytes) -> None:
    receive(nginx)
    path = file_of(nginx, BLOB.digest)
    path.chmod(0o644)
    path.write_bytes(damaged)
    assert receive(nginx) == 0
    assert path.read_bytes() == CONTENT
