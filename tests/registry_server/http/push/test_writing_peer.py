"""docker-registry (CNCF distribution) beside us: writers get the same answers to the same requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import begin, finish, index, patch, push_image, put_manifest
from tests.support.docker_registry import running_docker_registry
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.registries import Registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One that can be written to."""
    with running_registry(tmp_path_factory.mktemp("registry"), writable=True) as found:
        yield found


@pytest.fixture(scope="module")
def peer(docker_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("peer")
    with (
        running_docker_registry(docker_registry, folder, root=folder / "root") as running,
        httpx.Client(base_url=running.url, timeout=30) as client,
    ):
        yield client


CONTENT, WRONG = b"the content of a blob", Digest.of(b"other content")


def _begin(client: httpx.Client) -> httpx.Response:
    return client.post("/v2/peer/blobs/uploads/")


def _status(client: httpx.Client) -> httpx.Response:
    return client.get(begin(client, "peer"))


def _patch(client: httpx.Client) -> httpx.Response:
    return patch(client, begin(client, "peer"), CONTENT)


def _put(client: httpx.Client) -> httpx.Response:
    return finish(client, begin(client, "peer"), Digest.of(CONTENT), CONTENT)


def _patch_and_put(client: httpx.Client) -> httpx.Response:
    return finish(client, _patch(client).headers["Location"], Digest.of(CONTENT))


def _mount(client: httpx.Client) -> httpx.Response:
    _put(client)
    return client.post(f"/v2/peer-two/blobs/uploads/?mount={Digest.of(CONTENT)}&from=peer")


def _mount_nothing(client: httpx.Client) -> httpx.Response:
    return client.post(f"/v2/peer-two/blobs/uploads/?mount={WRONG}&from=peer")


def _cancel(client: httpx.Client) -> httpx.Response:
    return client.delete(begin(client, "peer"))


def _no_digest(client: httpx.Client) -> httpx.Response:
    return client.put(begin(client, "peer"))


def _no_such_session(client: httpx.Client) -> httpx.Response:
    location = begin(client, "peer")
    client.delete(location)
    return client.get(location)


def _manifest(client: httpx.Client) -> httpx.Response:
    push_image(client, "1.0", CONTENT, name="peer")
    return client.get(
        "/v2/peer/manifests/1.0", headers={"Accept": "application/vnd.oci.image.manifest.v1+json"}
    )


def _put_manifest(client: httpx.Client) -> httpx.Response:
    body = push_image(client, "1.0", CONTENT, name="peer")
    return put_manifest(client, body, "2.0", "peer")


def _put_index(client: httpx.Client) -> httpx.Response:
    body = push_image(client, "1.0", CONTENT, name="peer")
    return put_manifest(client, index(body), "index", "peer")


def _wrong_manifest_digest(client: httpx.Client) -> httpx.Response:
    body = push_image(client, "1.0", CONTENT, name="peer")
    return put_manifest(client, body, WRONG, "peer")


def _not_json(client: httpx.Client) -> httpx.Response:
    headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    return client.put("/v2/peer/manifests/bad", content=b"{", headers=headers)


@pytest.mark.parametrize(
    "act",
    [
        _begin, _status, _patch, _put, _patch_and_put, _mount, _mount_nothing, _cancel, _no_digest,
        _no_such_session, _manifest, _put_manifest, _put_index, _wrong_manifest_digest, _not_json,
    ],
)  # fmt: skip
def test_writers_are_answered_as_by_docker_registry(
    registry: Registry, peer: httpx.Client, act: Callable[[httpx.Client], httpx.Response]
) -> None:
    ours, theirs = act(registry.client), act(peer)
    assert ours.status_code == theirs.status_code
    for name in ("Range", "Docker-Content-Digest"):
        assert ours.headers.get(name) == theirs.headers.get(name), name
    for name in ("Location", "Docker-Upload-UUID"):
        assert (name in ours.headers) == (name in theirs.headers), name
    if ours.status_code >= 400:
        codes = [[error["code"] for error in answer.json()["errors"]] for answer in (ours, theirs)]
        assert codes[0] == codes[1]
