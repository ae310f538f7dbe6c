"""Short words for the requests of clients that push."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.support.registries import Registry

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and OCI error code."""
    return answer.status_code, answer.json()["errors"][0]["code"]


def begin(client: httpx.Client, name: str = "a", query: str = "") -> str:
    """A new session: its URL."""
    answer = client.post(f"/v2/{name}/blobs/uploads/{query}")
    assert answer.status_code == 202, answer.text
    return urljoin(str(answer.request.url), answer.headers["Location"])


def patch(client: httpx.Client, location: str, content: bytes, *, start: int | None = None) -> httpx.Response:
    """A chunk at `start`, or the next part of a stream."""
    chunk = {} if start is None else {"Content-Range": f"{start}-{start + len(content) - 1}"}
    return client.patch(location, content=content, headers=chunk)


def finish(
    client: httpx.Client, location: str, digest: str, content: bytes | Iterator[bytes] = b"", **headers: str
) -> httpx.Response:
    joined = "&" if "?" in location else "?"
    return client.put(f"{location}{joined}digest={digest}", content=content, headers=headers)


def push_blob(client: httpx.Client, content: bytes, name: str = "a", algorithm: str = "sha256") -> Descriptor:
    digest = Digest.of(content, algorithm)
    answer = finish(client, begin(client, name), digest, content)
    assert answer.status_code == 201, answer.text
    return Descriptor(LAYER_TYPE, digest, len(content))


def image(config: Descriptor, *layers: Descriptor, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.to_json() | {"mediaType": media_types.OCI_CONFIG},
        "layers": [layer.to_json() for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


def index(*children: bytes, **more: Any) -> bytes:
    entries = [
        {"mediaType": json.loads(child)["mediaType"], "digest": Digest.of(child), "size": len(child)}
        for child in children
    ]
    return json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries, **more}
    ).encode()


def put_manifest(
    client: httpx.Client, body: bytes, reference: str, name: str = "a", query: str = "", **headers: str
) -> httpx.Response:
    given = {"Content-Type": json.loads(body)["mediaType"]} | headers
    return client.put(f"/v2/{name}/manifests/{reference}{query}", content=body, headers=given)


def push_image(client: httpx.Client, tag: str, *layers: bytes, name: str = "a", **more: Any) -> bytes:
    """Blobs, manifest and tag; the manifest's bytes."""
    config = push_blob(client, b"{}", name)
    body = image(config, *(push_blob(client, layer, name) for layer in layers), **more)
    answer = put_manifest(client, body, tag, name)
    assert answer.status_code == 201, answer.text
    return body


def send_patch(registry: Registry, location: str, head: str, body: bytes) -> socket.socket:
    """A PATCH by hand, for bodies that no client library sends."""
    host, _, port = registry.host.partition(":")
    path = location.partition(registry.host)[2]
    connection = socket.create_connection((host, int(port)), timeout=30)
    request = f"PATCH {path} HTTP/1.1\r\nHost: {registry.host}\r\n{head}\r\n\r\n"
    connection.sendall(request.encode() + body)
    return connection


def is_busy(registry: Registry, location: str) -> bool:
    """Whether a request has the session, which belongs to the repository `a`."""
    name = RepositoryName("a")
    taken = registry.store.uploads(name).open(name, location.rpartition("/")[2])
    if taken is not None:
        taken.close()
    return taken is None
