"""Writers against deleters, and writers against each other: no tag is ever a lie."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import httpx

from registry_server.http.push.push_limits import PushLimits
from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import image, index, push_blob, push_image, put_manifest
from tests.registry_server.store.images import check
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROUNDS = 40


def _at_once(*actions: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as failure:  # noqa: BLE001 - shown below
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(action,)) for action in actions]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]


def test_what_a_tag_needs_is_not_deleted_while_it_is_pushed(tmp_path: Path) -> None:
    """Either the push is told that a blob is gone, or the delete that a tag needs it."""
    limits = PushLimits(require_blobs=1)
    with running_registry(tmp_path, writable=True, workers=2, limits=limits) as registry:
        seen: list[int] = []

        def push() -> None:
            with httpx.Client(base_url=registry.url, timeout=60) as client:
                for number in range(ROUNDS):
                    body = image(push_blob(client, b"{}"), push_blob(client, b"layer"), note=number)
                    seen.append(put_manifest(client, body, "latest").status_code)

        def delete() -> None:
            with httpx.Client(base_url=registry.url, timeout=60) as client:
                for number in range(ROUNDS * 2):
                    client.delete(f"/v2/a/blobs/{Digest.of(b'layer')}")
                    if number % 3 == 0:
                        client.delete("/v2/a/manifests/latest")

        _at_once(push, delete, delete)
        assert set(seen) <= {201, 400}
        assert 201 in seen
        check(registry.store)


def test_nobody_loses_an_entry_of_an_index_that_all_extend(tmp_path: Path) -> None:
    """What clients do with the referrers tag schema, and If-Match is for."""
    with running_registry(tmp_path, writable=True, workers=2) as registry:
        children = [
            push_image(registry.client, f"child-{number}", b"layer", note=number) for number in range(24)
        ]

        def extend(mine: list[bytes]) -> None:
            with httpx.Client(base_url=registry.url, timeout=60) as client:
                for child in mine:
                    while _extended(client, child) == 412:
                        pass

        _at_once(*(lambda mine=children[start::4]: extend(mine) for start in range(4)))
        listed = registry.client.get("/v2/a/manifests/shared").json()["manifests"]
        assert {entry["digest"] for entry in listed} == {Digest.of(child) for child in children}


def _extended(client: httpx.Client, child: bytes) -> int:
    """One attempt to add `child`; the status."""
    found = client.get("/v2/a/manifests/shared")
    held = found.json()["manifests"] if found.status_code == 200 else []
    condition = {"If-Match": found.headers["ETag"]} if held else {"If-None-Match": "*"}
    body = json.loads(index(child))
    body["manifests"] = held + body["manifests"]
    status = put_manifest(client, json.dumps(body).encode(), "shared", **condition).status_code
    assert status in (201, 412)
    return status
