"""Blobs: pushed in every way, pulled whole and in parts, deleted (distribution-spec, "Pull" and "Push")."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from tests.registry_server.conformance.checks import (
    ACCEPTED,
    BAD,
    BAD_RANGE,
    CREATED,
    MISSING,
    NO_CONTENT,
    OTHER,
    REPO,
    blob_is_deleted,
    blob_is_there,
    blob_was_pushed,
    expect,
    location,
    with_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    Way = Callable[[httpx.Client, str, Digest, bytes], httpx.Response]

UPLOADS = f"/v2/{REPO}/blobs/uploads/"
CHUNK = 1024
_random = random.Random(2)  # noqa: S311 - the same content in each run


def begin(client: httpx.Client, repository: str = REPO) -> str:
    return location(expect(client.post(f"/v2/{repository}/blobs/uploads/"), ACCEPTED))


def patch(client: httpx.Client, url: str, content: bytes, start: int) -> httpx.Response:
    last = start + len(content) - 1
    return client.patch(url, content=content, headers={"Content-Range": f"{start}-{last}"})


def in_pieces(content: bytes) -> Iterator[bytes]:
    yield from (content[start : start + CHUNK] for start in range(0, len(content), CHUNK))


def post_only(client: httpx.Client, repository: str, digest: Digest, content: bytes) -> httpx.Response:
    return client.post(with_digest(f"/v2/{repository}/blobs/uploads/", digest), content=content)


def post_put(client: httpx.Client, repository: str, digest: Digest, content: bytes) -> httpx.Response:
    return client.put(with_digest(begin(client, repository), digest), content=content)


def one_chunk(client: httpx.Client, repository: str, digest: Digest, content: bytes) -> httpx.Response:
    answer = expect(patch(client, begin(client, repository), content, 0), ACCEPTED)
    return client.put(with_digest(location(answer), digest))


def chunks(client: httpx.Client, repository: str, digest: Digest, content: bytes) -> httpx.Response:
    url = _all_but_the_last(client, repository, content)
    start = 2 * CHUNK
    url = location(expect(patch(client, url, content[start:], start), ACCEPTED))
    return client.put(with_digest(url, digest))


def chunks_and_put(client: httpx.Client, repository: str, digest: Digest, content: bytes) -> httpx.Response:
    url, start = _all_but_the_last(client, repository, content), 2 * CHUNK
    last = {"Content-Range": f"{start}-{len(content) - 1}"}
    return client.put(with_digest(url, digest), content=content[start:], headers=last)


def stream(client: httpx.Client, repository: str, digest: Digest, content: bytes) -> httpx.Response:
    answer = client.patch(begin(client, repository), content=in_pieces(content))
    assert "Content-Length" not in answer.request.headers
    return client.put(with_digest(location(expect(answer, ACCEPTED)), digest))


def _all_but_the_last(client: httpx.Client, repository: str, content: bytes) -> str:
    url = begin(client, repository)
    for start in (0, CHUNK):
        answer = expect(patch(client, url, content[start : start + CHUNK], start), ACCEPTED)
        assert answer.headers["Range"] == f"0-{start + CHUNK - 1}"
        url = location(answer)
    return url


WAYS: list[Way] = [post_only, post_put, one_chunk, chunks, chunks_and_put, stream]
by_algorithm = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
in_every_way = pytest.mark.parametrize("way", WAYS)


def fresh(algorithm: str, length: int = 3 * CHUNK) -> tuple[Digest, bytes]:
    """Content that no other test has."""
    content = _random.randbytes(length)
    return Digest.of(content, algorithm), content


@by_algorithm
@in_every_way
def test_a_blob_is_pushed_pulled_and_deleted(conforming: httpx.Client, way: Way, algorithm: str) -> None:
    digest, content = fresh(algorithm)
    blob_was_pushed(conforming, way(conforming, REPO, digest, content), REPO, digest, content)
    blob_is_deleted(conforming, REPO, digest)


@by_algorithm
@in_every_way
def test_a_digest_that_is_another_is_refused(conforming: httpx.Client, way: Way, algorithm: str) -> None:
    digest, content = fresh(algorithm)
    wrong = Digest.of(b"something else", algorithm)
    expect(way(conforming, REPO, wrong, content), BAD)
    for each in (digest, wrong):
        expect(conforming.head(f"/v2/{REPO}/blobs/{each}"), MISSING)


@by_algorithm
@pytest.mark.parametrize("way", [post_only, post_put])
@pytest.mark.parametrize("content", [b"", b"{}"])
def test_small_content_is_content(conforming: httpx.Client, way: Way, content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    blob_was_pushed(conforming, way(conforming, REPO, digest, content), REPO, digest, content)
    blob_is_deleted(conforming, REPO, digest)


@by_algorithm
def test_a_blob_that_is_not_there_is_404(conforming: httpx.Client, algorithm: str) -> None:
    digest, _ = fresh(algorithm)
    for repository in (REPO, "conformance/never"):
        expect(conforming.get(f"/v2/{repository}/blobs/{digest}"), MISSING)
        expect(conforming.head(f"/v2/{repository}/blobs/{digest}"), MISSING)
        expect(conforming.delete(f"/v2/{repository}/blobs/{digest}"), MISSING)


@by_algorithm
@pytest.mark.parametrize("good", [0, 1], ids=["at-once", "after-a-chunk"])
def test_chunks_out_of_order_are_416_and_the_upload_goes_on(
    conforming: httpx.Client, good: int, algorithm: str
) -> None:
    digest, content = fresh(algorithm)
    url, there = begin(conforming), good * CHUNK
    if good:
        url = location(expect(patch(conforming, url, content[:CHUNK], 0), ACCEPTED))
    ahead = there + CHUNK
    for answer in (
        patch(conforming, url, content[ahead : ahead + CHUNK], ahead),
        conforming.put(
            with_digest(url, digest), content=content[ahead:],
            headers={"Content-Range": f"{ahead}-{len(content) - 1}"},
        ),
    ):  # fmt: skip
        expect(answer, BAD_RANGE)
        state = expect(conforming.get(with_digest(url, digest)), NO_CONTENT)
        assert state.headers["Range"] == f"0-{max(there - 1, 0)}"
        url = location(state)
    for start in range(there, len(content), CHUNK):
        answer = expect(patch(conforming, url, content[start : start + CHUNK], start), ACCEPTED)
        url = location(answer)
    answer = conforming.put(with_digest(url, digest))
    blob_was_pushed(conforming, answer, REPO, digest, content)


@by_algorithm
def test_an_upload_is_cancelled(conforming: httpx.Client, algorithm: str) -> None:
    digest, content = fresh(algorithm)
    url = location(expect(patch(conforming, begin(conforming), content, 0), ACCEPTED))
    assert conforming.delete(url).status_code == NO_CONTENT
    expect(conforming.get(url), MISSING)
    expect(conforming.put(with_digest(url, digest)), MISSING)
    expect(conforming.head(f"/v2/{REPO}/blobs/{digest}"), MISSING)


@by_algorithm
@pytest.mark.parametrize("source", [f"&from={OTHER}", ""], ids=["named", "anonymous"])
def test_a_blob_is_mounted(conforming: httpx.Client, source: str, algorithm: str) -> None:
    digest, content = fresh(algorithm)
    expect(post_put(conforming, OTHER, digest, content), CREATED)
    answer = conforming.post(f"{UPLOADS}?mount={digest}{source}")
    blob_was_pushed(conforming, answer, REPO, digest, content)
    blob_is_deleted(conforming, REPO, digest)
    blob_is_there(conforming, OTHER, digest, content)


@by_algorithm
def test_a_mount_of_what_is_missing_opens_an_upload(conforming: httpx.Client, algorithm: str) -> None:
    digest, content = fresh(algorithm)
    answer = expect(conforming.post(f"{UPLOADS}?mount={digest}&from={OTHER}"), ACCEPTED)
    answer = conforming.put(with_digest(location(answer), digest), content=content)
    blob_was_pushed(conforming, answer, REPO, digest, content)


SIZE = 10 * CHUNK


@by_algorithm
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("500-1499", 500, 1499),
        ("500-", 500, SIZE - 1),
        ("-500", SIZE - 500, SIZE - 1),
        ("2000-99999", 2000, SIZE - 1),
    ],
)
def test_a_part_of_a_blob_is_pulled(
    conforming: httpx.Client, asked: str, first: int, last: int, algorithm: str
) -> None:
    digest, content = fresh(algorithm, SIZE)
    expect(post_put(conforming, REPO, digest, content), CREATED)
    answer = conforming.get(f"/v2/{REPO}/blobs/{digest}", headers={"Range": f"bytes={asked}"})
    expect(answer, 206)
    assert answer.content == content[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["Content-Length"] == str(last + 1 - first)


@by_algorithm
@pytest.mark.parametrize("asked", ["500-0", f"{SIZE}-", f"{SIZE * 2}-{SIZE * 3}"])
def test_a_part_that_no_blob_has_is_416(conforming: httpx.Client, asked: str, algorithm: str) -> None:
    digest, content = fresh(algorithm, SIZE)
    expect(post_put(conforming, REPO, digest, content), CREATED)
    expect(conforming.get(f"/v2/{REPO}/blobs/{digest}", headers={"Range": f"bytes={asked}"}), BAD_RANGE)
    blob_is_there(conforming, REPO, digest, content)
