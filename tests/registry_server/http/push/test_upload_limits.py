"""Each server here has one limit that is within reach."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from registry_server.http.push.push_limits import PushLimits
from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import begin, code, is_busy, patch, push_blob, send_patch
from tests.registry_server.http.upload_ways import WAYS
from tests.support.registries import running_registry
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from tests.registry_server.http.upload_ways import Way
    from tests.support.registries import Registry

CONTENT = os.urandom(300_000)


def _code(tmp_path: Path, limits: PushLimits, act: Callable[[Registry], httpx.Response]) -> tuple[int, str]:
    with running_registry(tmp_path, writable=True, limits=limits) as registry:
        answer = act(registry)
        assert "Traceback" not in answer.text
        return code(answer)


@pytest.mark.parametrize("way", WAYS)
def test_a_blob_that_is_too_large_is_413(tmp_path: Path, way: Way) -> None:
    def act(registry: Registry) -> httpx.Response:
        try:
            return way(registry.client, Digest.of(CONTENT), CONTENT)
        except (AssertionError, KeyError):  # a part was refused already
            return patch(registry.client, begin(registry.client), CONTENT)

    assert _code(tmp_path, PushLimits(blob_bytes=250_000), act) == (413, "SIZE_INVALID")


def test_a_disk_that_is_nearly_full_takes_no_uploads(tmp_path: Path) -> None:
    limits = PushLimits(spare_bytes=2**62)
    with running_registry(tmp_path, writable=True, limits=limits) as registry:
        answer = registry.client.post("/v2/a/blobs/uploads/")
        assert code(answer) == (507, "DENIED")
        assert "not enough disk space" in answer.text
        assert registry.client.get("/v2/").status_code == 200


def test_an_announced_body_that_has_no_room_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with running_registry(tmp_path, writable=True) as registry:
        location = begin(registry.client)
        length = 2**60
        with send_patch(registry, location, f"Content-Length: {length}\r\nExpect: 100-continue", b"") as sent:
            assert sent.recv(4096).startswith(b"HTTP/1.1 507")
        assert registry.client.get(location).status_code == 204


def test_sessions_are_capped(tmp_path: Path) -> None:
    with running_registry(tmp_path, writable=True, limits=PushLimits(sessions=2)) as registry:
        location = begin(registry.client)
        begin(registry.client, "b")
        answer = registry.client.post("/v2/c/blobs/uploads/")
        assert (*code(answer), answer.headers["Retry-After"]) == (429, "TOOMANYREQUESTS", "60")
        registry.client.delete(location)
        push_blob(registry.client, b"content")


def test_sessions_of_one_client_are_capped(tmp_path: Path) -> None:
    limits = PushLimits(client_sessions=1)
    with running_registry(tmp_path, writable=True, limits=limits) as registry:
        begin(registry.client)
        assert code(registry.client.post("/v2/a/blobs/uploads/")) == (429, "TOOMANYREQUESTS")


def test_a_body_that_stands_still_is_given_up(tmp_path: Path) -> None:
    limits = PushLimits(body_idle_seconds=0.2)
    with running_registry(tmp_path, writable=True, limits=limits) as registry:
        location = begin(registry.client)
        with send_patch(registry, location, "Content-Length: 10", b"01234") as sent:
            assert sent.recv(4096).startswith(b"HTTP/1.1 408")
        assert patch(registry.client, location, b"0123456789", start=0).status_code == 202


def test_who_waits_too_long_for_a_session_is_told(tmp_path: Path) -> None:
    with running_registry(tmp_path, writable=True, limits=PushLimits(busy_seconds=0.1)) as registry:
        location = begin(registry.client)
        with send_patch(registry, location, "Content-Length: 10", b"01234"):
            wait_for(lambda: is_busy(registry, location))
            answer = patch(registry.client, location, b"0123456789")
        assert (*code(answer), answer.headers["Retry-After"]) == (409, "BLOB_UPLOAD_INVALID", "5")
