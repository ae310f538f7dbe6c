"""The sample registry of the demo: complete, the same each time, and untidy enough."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_upstream import fill_sample_upstream
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import Manifest, parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry


@pytest.fixture(scope="module")
def store(sample_root: Path) -> Store:
    return Store.open(sample_root)


def _manifest(store: Store, name: str, reference: str | Digest) -> Manifest:
    found = reference if isinstance(reference, Digest) else Tag(reference)
    descriptor, body = store.repository(RepositoryName(name)).read_manifest(found)
    return parse_manifest(body, descriptor.media_type)


def _manifests(store: Store) -> Iterator[tuple[str, Manifest]]:
    """Every manifest that a tag leads to."""
    for name in store.repositories():
        repository = store.repository(name)
        pending = [record.digest for record in repository.tag_records().values()]
        seen: set[Digest] = set()
        while pending:
            digest = pending.pop()
            if digest not in seen:
                seen.add(digest)
                manifest = _manifest(store, name, digest)
                pending += [child.digest for child in manifest.manifests]
                yield name, manifest


def test_it_says_what_it_made_and_makes_the_same_each_time(store: Store, tmp_path: Path) -> None:
    again = Store.open(tmp_path, durability="none")
    summary = fill_sample_upstream(again)
    names = ["apps/api", "apps/web", "charts/web", "library/alpine", "library/nginx", "tools/builder"]
    assert store.repositories() == names
    assert summary.repositories == len(names)
    assert summary.tags == sum(len(store.repository(name).tags()) for name in store.repositories())
    assert 10_000_000 < summary.bytes < 30_000_000
    for name in store.repositories():
        assert again.repository(name).tag_records() == store.repository(name).tag_records()


def test_every_image_is_complete(store: Store) -> None:
    for name, manifest in _manifests(store):
        assert store.repository(RepositoryName(name)).missing(manifest) == []


def test_layers_are_real_and_the_configs_know_them(store: Store) -> None:
    for name, manifest in _manifests(store):
        repository = store.repository(RepositoryName(name))
        for blob, diff_id in zip(manifest.layers, _diff_ids(store, name, manifest), strict=False):
            tar = gzip.decompress(file_of(repository, blob.digest).read_bytes())
            assert Digest.of(tar) == diff_id
            with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                assert [member.name.partition("/")[0] for member in archive] == ["opt"]


def _diff_ids(store: Store, name: str, manifest: Manifest) -> list[str]:
    config = manifest.config
    if config is None or config.media_type not in (media_types.OCI_CONFIG, media_types.DOCKER_CONFIG):
        return []
    content = file_of(store.repository(RepositoryName(name)), config.digest).read_bytes()
    found: list[str] = json.loads(content)["rootfs"]["diff_ids"]
    return found


def test_it_has_what_mirrors_stumble_over(store: Store) -> None:
    everything = list(_manifests(store))
    types = {manifest.media_type for _, manifest in everything}
    assert types == media_types.IMAGES | media_types.INDEXES
    children = [child for _, manifest in everything for child in manifest.manifests]
    platforms = {str(child.platform) for child in children}
    assert {"linux/amd64", "linux/arm64/v8", "linux/arm/v7", "unknown/unknown"} <= platforms
    assert any(child.media_type in media_types.INDEXES for child in children)  # an index in an index
    assert any(manifest.artifact_type for _, manifest in everything)


def test_layers_are_shared_between_images_and_repositories(store: Store) -> None:
    uses = [(name, blob.digest) for name, manifest in _manifests(store) for blob in manifest.layers]
    names_of: dict[Digest, set[str]] = {}
    for name, digest in uses:
        names_of.setdefault(digest, set()).add(name)
    assert len(uses) > len(names_of)
    assert any(len(names) > 1 for names in names_of.values())


def test_an_sbom_refers_to_the_newest_release(store: Store) -> None:
    repository = store.repository(RepositoryName("apps/web"))
    (sbom,) = repository.referrers(repository.find_manifest(Tag("latest")).descriptor.digest)
    assert sbom.artifact_type == "application/spdx+json"


def test_skopeo_pulls_from_it(sample_upstream: Registry, skopeo: str, tmp_path: Path) -> None:
    for number, image in enumerate(["library/nginx:1.26.0", "apps/api:1.1", "tools/builder:latest"]):
        source = f"docker://{sample_upstream.host}/{image}"
        target = f"dir:{tmp_path / str(number)}"
        subprocess.run([skopeo, "copy", "-q", "--all", "--src-tls-verify=false", source, target], check=True)
    assert sample_upstream.requests.counts()["GET manifest"] > 3
