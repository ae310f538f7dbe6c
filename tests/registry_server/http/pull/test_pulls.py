"""What somebody pulls is remembered for retention; who only looks, or pulls in vain, leaves no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.gc.collector import collect
from registry_server.store.gc.retention import (
    GcOptions,
    KeepTags,
    RepositoryRetention,
    Retention,
    RetentionLimits,
)
from tests.registry_server.store.filesystem.disks import read_only
from tests.registry_server.store.gc.collecting import age
from tests.registry_server.store.images import tag_image
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.registries import Registry

WEEK = 7 * 86400.0
LATELY = RepositoryRetention(keep_tags=(KeepTags(lambda _: True, RetentionLimits(pulled_within=WEEK)),))


def _pulls(registry: Registry, repository: str = "a") -> list[str]:
    folder = registry.store.root / "repos" / repository / "_r/pulls"
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_pull_saves_a_tag_from_retention(tmp_path: Path, by: str) -> None:
    with running_registry(tmp_path) as registry:
        repository = registry.store.repository(RepositoryName("a"))
        made = {tag: tag_image(repository, tag, tag.encode()) for tag in ("pulled", "idle")}
        age(registry.store, days=60)
        reference = "pulled" if by == "tag" else made["pulled"].digest
        assert registry.client.head("/v2/a/manifests/idle").status_code == 200
        assert registry.client.get(f"/v2/a/manifests/{reference}").status_code == 200
        options = GcOptions(settle=0.0, retention=Retention((LATELY,)))
        collect(registry.store, {registry.store.root: options})
        assert repository.tags() == ["pulled"]


def test_what_is_not_there_is_not_remembered(tmp_path: Path) -> None:
    with running_registry(tmp_path) as registry:
        tag_image(registry.store.repository(RepositoryName("a")), "1", b"layer")
        for path in ("a/manifests/2", "b/manifests/1", f"a/manifests/sha256:{'0' * 64}"):
            assert registry.client.get(f"/v2/{path}").status_code == 404
        assert _pulls(registry) == []
        assert not (registry.store.root / "repos/b").exists()
        assert registry.client.get("/v2/a/manifests/1").status_code == 200
        assert _pulls(registry) == ["1"]


def test_a_read_only_store_is_pulled_from_all_the_same(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with running_registry(tmp_path, root=root) as registry:
        tag_image(registry.store.repository(RepositoryName("a")), "1", b"layer")
        with read_only(root):
            assert registry.client.get("/v2/a/manifests/1").status_code == 200
