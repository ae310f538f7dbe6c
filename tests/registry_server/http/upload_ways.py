"""The ways to push a blob, as functions of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.registry_server.http.pushing import begin, finish, patch

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from registry_server.oci.digest import Digest

    Way = Callable[[httpx.Client, Digest, bytes], httpx.Response]


def at_once(client: httpx.Client, digest: Digest, content: bytes) -> httpx.Response:
    return client.post(f"/v2/a/blobs/uploads/?digest={digest}", content=content)


def post_put(client: httpx.Client, digest: Digest, content: bytes) -> httpx.Response:
    return finish(client, begin(client), digest, content)


def chunks(client: httpx.Client, digest: Digest, content: bytes) -> httpx.Response:
    location = begin(client)
    for start in range(0, len(content), 100_000):
        answer = patch(client, location, content[start : start + 100_000], start=start)
        assert answer.status_code == 202
        assert answer.headers["Range"] == f"0-{min(start + 100_000, len(content)) - 1}"
        location = answer.headers["Location"]
    return finish(client, location, digest)


def chunks_and_the_last_in_put(client: httpx.Client, digest: Digest, content: bytes) -> httpx.Response:
    location = begin(client)
    patch(client, location, content[:200_000], start=0)
    rest = content[200_000:]
    return finish(
        client, location, digest, rest, **{"Content-Range": f"200000-{len(content) - 1}"} if rest else {}
    )


def stream(client: httpx.Client, digest: Digest, content: bytes) -> httpx.Response:
    """Docker's way: no Content-Length, no Content-Range."""
    location = begin(client)
    pieces = (content[start : start + 50_000] for start in range(0, len(content), 50_000))
    answer = client.patch(location, content=pieces)
    assert answer.request.headers["Transfer-Encoding"] == "chunked"
    return finish(client, answer.headers["Location"], digest)


def put_stream(client: httpx.Client, digest: Digest, content: bytes) -> httpx.Response:
    return finish(client, begin(client), digest, iter([content]))


WAYS: list[Way] = [at_once, post_put, chunks, chunks_and_the_last_in_put, stream, put_stream]
