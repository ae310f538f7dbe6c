"""What a writer may not read is of no use to it: no mount, no session, no hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.digest import Digest
from tests.registry_server.http.auth.support import AUTH, auth_of, guarded
from tests.registry_server.http.pushing import begin, code, finish, patch, push_blob, push_image
from tests.support.registries import put_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registries import Registry

CONTROL = """
accessControl:
  repositories:
    "alice/**": {policies: [{users: [alice], actions: [read, create, update, delete]}]}
    "bob/**": {policies: [{users: [bob], actions: [read, create]}]}
"""
SECRET = b"a layer that only bob may read"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("guarded")
    passwords = AUTH.replace("1ms", "1ms, bearer: {enable: false}")
    with guarded(folder, f"{passwords}{CONTROL}", writable=True) as found:
        put_blob(found.store, "bob/app", SECRET)
        yield found


@pytest.fixture
def alice(registry: Registry) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=registry.url, auth=auth_of("alice")) as client:
        yield client


@pytest.fixture
def bob(registry: Registry) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=registry.url, auth=auth_of("bob")) as client:
        yield client


@pytest.mark.parametrize("source", ["&from=bob/app", ""])
@pytest.mark.parametrize("content", [SECRET, b"nowhere"])
def test_a_mount_tells_nothing_about_what_one_may_not_read(
    alice: httpx.Client, source: str, content: bytes
) -> None:
    answer = alice.post(f"/v2/alice/app/blobs/uploads/?mount={Digest.of(content)}{source}")
    assert answer.status_code == 202
    assert alice.head(f"/v2/alice/app/blobs/{Digest.of(content)}").status_code == 404


def test_who_may_push_pushes(alice: httpx.Client) -> None:
    body = push_image(alice, "1.0", b"layer", name="alice/app")
    assert alice.get("/v2/alice/app/manifests/1.0").content == body
    blob = push_blob(alice, b"mounted", "alice/app")
    assert alice.post(f"/v2/alice/two/blobs/uploads/?mount={blob.digest}&from=alice/app").status_code == 201
    assert alice.delete("/v2/alice/app/manifests/1.0").status_code == 202


def test_nobody_goes_on_with_the_upload_of_another(alice: httpx.Client, bob: httpx.Client) -> None:
    location = begin(alice, "alice/app")
    patch(alice, location, b"content")
    for answer in (
        patch(bob, location, b"more"),
        finish(bob, location, Digest.of(b"content")),
        bob.get(location),
        bob.delete(location),
        patch(bob, location.replace("/alice/", "/bob/"), b"more"),
    ):
        assert answer.status_code in (401, 403, 404)
    assert finish(alice, location, Digest.of(b"content")).status_code == 201


def test_who_may_only_create_neither_moves_nor_deletes(bob: httpx.Client) -> None:
    push_image(bob, "1.0", b"one", name="bob/app")
    with pytest.raises(AssertionError):
        push_image(bob, "1.0", b"two", name="bob/app")
    assert code(bob.delete("/v2/bob/app/manifests/1.0")) == (403, "DENIED")


def test_nobody_pushes_without_a_name(registry: Registry) -> None:
    assert registry.client.post("/v2/alice/app/blobs/uploads/").status_code == 401
