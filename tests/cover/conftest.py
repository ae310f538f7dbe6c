"""A mirrored upstream, and a Kubernetes API."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_images import AMD64, ARM64, layer
from tests.cover.clusters import serve_cluster
from tests.cover.worlds import World
from tests.support.command_line import mirrorflow
from tests.support.registries import running_registry
from tests.support_misbehaving import Misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("cover")
    (folder / "log").mkdir()
    with running_registry(folder / "log", root=folder / "upstream") as upstream:
        for name in ("web", "db", "tool", "new", "named"):
            maker = upstream.maker(f"shop/{name}")
            for version in ("v1.0.0", "v1.1.0", "v2.0.0"):
                layers = {
                    each: [layer(f"{name}{version}{each.architecture}", 900)] for each in (AMD64, ARM64)
                }
                maker.tag(maker.multi_platform(layers, attested=True), version)
        maker = upstream.maker("shop/db")
        maker.tag(maker.image([layer("single", 900)]), "single")
        world = World(upstream, folder)
        world.write()
        done = mirrorflow("sync", world.profile)
        assert done.returncode == 0, done.stderr
        yield world


@pytest.fixture
def world(mirrored: World, tmp_path: Path) -> World:
    """A copy, for a test to spoil."""
    shutil.copytree(mirrored.folder / "store", tmp_path / "store")
    shutil.copy(mirrored.profile, tmp_path)
    return World(mirrored.upstream, tmp_path)


@pytest.fixture
def api() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        yield serve_cluster(found)
