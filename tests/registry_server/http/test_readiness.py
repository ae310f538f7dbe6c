"""A server whose store is not there: not ready, alive, and never 404 for what it may well have."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response

from registry_server.http.readiness import Readiness
from registry_server.oci.digest import Digest
from registry_server.store.errors import StoreMissing
from tests.registry_server.http.pushing import push_image
from tests.support.registries import put_blob, running_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.registries import Registry

DIGEST = Digest.of(b"layer")


def _unmount(registry: Registry, folder: Path) -> None:
    """What an unmounted volume leaves: the empty folder that it was mounted on."""
    assert registry.client.get("/readyz").status_code == 200  # the worker has opened it
    registry.store.root.rename(folder / "volume")
    registry.store.root.mkdir()


def _mount(registry: Registry, folder: Path) -> None:
    registry.store.root.rmdir()
    (folder / "volume").rename(registry.store.root)


def test_a_server_is_ready_again_when_its_store_is_back(tmp_path: Path) -> None:
    with running_registry(tmp_path) as registry:
        for _ in range(2):
            assert registry.client.get("/readyz").status_code == 200
            _unmount(registry, tmp_path)
            refused = registry.client.get("/readyz")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            assert str(tmp_path) not in refused.text
            assert registry.client.get("/livez").status_code == 200
            _mount(registry, tmp_path)
        assert registry.client.get("/readyz").status_code == 200


def test_each_storage_root_has_to_be_there(tmp_path: Path) -> None:
    roots = {"/tools": tmp_path / "tools"}
    with running_registry(tmp_path, subpaths=roots) as registry:
        assert registry.client.get("/readyz").status_code == 200
        (tmp_path / "tools/format.json").unlink()
        assert registry.client.get("/readyz").status_code == 503


def test_another_store_in_its_place_is_not_ready(tmp_path: Path) -> None:
    """The wrong volume was mounted: what clients are told of this store would be about another one."""
    with running_registry(tmp_path) as registry:
        assert registry.client.get("/readyz").status_code == 200
        (registry.store.root / "format.json").write_text('{"version": 1, "uuid": "of another store"}')
        assert registry.client.get("/readyz").status_code == 503


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/v2/team/app/manifests/1", id="a tag"),
        pytest.param("HEAD", "/v2/team/app/manifests/1", id="without a body"),
        pytest.param("GET", f"/v2/team/app/blobs/{DIGEST}", id="a blob"),
        pytest.param("GET", "/v2/team/app/tags/list", id="tags"),
        pytest.param("GET", "/v2/_catalog", id="an empty catalog would say that there is nothing"),
        pytest.param(
            "GET", f"/v2/team/app/referrers/{Digest.of(b'layer')}", id="as would a list of referrers"
        ),
        pytest.param("POST", "/v2/team/app/blobs/uploads/", id="a push"),
        pytest.param("PATCH", f"/v2/team/app/blobs/uploads/{'0' * 32}", id="a chunk of one"),
    ],
)
def test_without_its_store_a_server_says_503_and_not_404(tmp_path: Path, method: str, path: str) -> None:
    with running_registry(tmp_path, writable=True) as registry:
        put_blob(registry.store, "team/app", b"layer")
        push_image(registry.client, "1", name="team/app")
        _unmount(registry, tmp_path)
        answer = registry.client.request(method, path)
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers or method in ("POST", "PATCH")
        _mount(registry, tmp_path)
        assert registry.client.get("/readyz").status_code == 200
        assert registry.client.get("/v2/team/app/manifests/none").status_code == 404


def test_the_log_says_once_what_is_wrong(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with running_registry(tmp_path) as registry:
        _unmount(registry, tmp_path)
        assert [registry.client.get("/readyz").status_code for _ in range(3)] == [503] * 3
        _mount(registry, tmp_path)
    said = [line for line in capfd.readouterr().err.splitlines() if "cannot be reached" in line]
    assert len(said) == 1
    assert "check that its volume is mounted" in said[0]


def test_a_file_system_that_does_not_answer_is_a_failure_and_holds_one_thread() -> None:
    answers, begun = threading.Event(), []

    def look() -> None:
        begun.append(1)
        answers.wait()

    async def probe() -> None:
        readiness = Readiness(look, timeout=0.02)
        for _ in range(5):
            assert await readiness.problem() == "no answer of the file system within 0.02 s"
        answers.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        assert await Readiness(look).problem() == ""

    asyncio.run(probe())
    assert len(begun) == 2


@pytest.mark.parametrize("is_quick", [True, False], ids=["of a folder", "of a store behind a network"])
def test_after_a_failed_look_answers_of_404_believe_it_for_a_second(*, is_quick: bool) -> None:
    now, looks = [100.0], [0]

    def gone() -> None:
        looks[0] += 1
        raise StoreMissing("gone")

    readiness = Readiness(gone, is_quick=is_quick, clock=lambda: now[0])

    async def answer() -> list[int]:
        found = []
        for now[0] in (100.0, 100.5, 100.9, 101.1):
            found.append((await readiness.correct(Response(status_code=404), None)).status_code)
        return found

    assert asyncio.run(answer()) == [503] * 4
    assert looks == [2]
