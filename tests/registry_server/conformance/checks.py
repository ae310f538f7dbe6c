"""What every answer of one kind must hold, whatever led to it (end-N: distribution-spec, "Endpoints")."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

if TYPE_CHECKING:
    import httpx

    from registry_server.oci.digest import Digest

REPO, OTHER = "conformance/one", "conformance/two"
OK, CREATED, ACCEPTED, NO_CONTENT = 200, 201, 202, 204
BAD, MISSING, BAD_RANGE = 400, 404, 416


def expect(answer: httpx.Response, *statuses: int) -> httpx.Response:
    assert answer.status_code in statuses, f"{answer.request.method} {answer.request.url}: {answer.text}"
    return answer


def location(answer: httpx.Response) -> str:
    """Relative ones count from the URL of the request."""
    assert "Location" in answer.headers
    return urljoin(str(answer.request.url), answer.headers["Location"])


def with_digest(url: str, digest: str) -> str:
    """A location may carry a query of its own."""
    return f"{url}{'&' if '?' in url else '?'}digest={digest}"


def blob_is_there(client: httpx.Client, repository: str, digest: Digest, content: bytes) -> None:
    """end-2: HEAD and GET agree, and both name the digest that was asked for."""
    head = expect(client.head(f"/v2/{repository}/blobs/{digest}"), OK)
    assert head.content == b""
    get = expect(client.get(f"/v2/{repository}/blobs/{digest}"), OK)
    assert get.content == content
    for answer in (head, get):
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.headers["Docker-Content-Digest"] == digest


def blob_was_pushed(
    client: httpx.Client, answer: httpx.Response, repository: str, digest: Digest, content: bytes
) -> None:
    """end-4b, 6, 11: 201, the digest, and a location that can be pulled from."""
    expect(answer, CREATED)
    assert answer.headers["Docker-Content-Digest"] == digest
    assert expect(client.get(location(answer)), OK).content == content
    blob_is_there(client, repository, digest, content)


def blob_is_deleted(client: httpx.Client, repository: str, digest: Digest) -> None:
    """end-10: at once, in this repository, whoever else has it."""
    expect(client.delete(f"/v2/{repository}/blobs/{digest}"), ACCEPTED)
    expect(client.head(f"/v2/{repository}/blobs/{digest}"), MISSING)
    expect(client.get(f"/v2/{repository}/blobs/{digest}"), MISSING)


def manifest_is_there(client: httpx.Client, url: str, digest: Digest, media_type: str, body: bytes) -> None:
    """end-3: exact bytes under the exact type, without parameters."""
    for answer in (client.get(url), client.head(url)):
        expect(answer, OK)
        assert answer.content == (body if answer.request.method == "GET" else b"")
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Content-Length"] == str(len(body))
        assert answer.headers["Docker-Content-Digest"] == digest
