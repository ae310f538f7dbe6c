"""The same verdict from the store, and over HTTP from the server that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiles.model.registry_entry import RegistryEntry
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_MANIFEST
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import TagRecord
from tasks.trust.judging import judge
from tasks.trust.sources import StoreSource, UpstreamSource
from tasks.trust.verdict import VerdictOutcome
from tasks.upstream.errors import UpstreamError
from tasks.upstream.login.credentials import NoCredentials
from tasks.upstream.registry import UpstreamRegistry
from tests.support.registries import running_registry
from tests.tasks.trust.world import SOURCE, SignedImage, World, signer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.store.store import Store
    from tasks.trust.sources import SignatureSource
    from tests.support.registries import Registry

NAME = "acme/app"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("signed")) as found:
        yield found


def _publish(image: SignedImage, store: Store) -> None:
    """What the repository in memory has, into the store."""
    repository = store.repository(RepositoryName(NAME))
    for digest, content in image.repository.blobs.items():
        repository.put_blob(Descriptor("a/b", Digest(digest), len(content)), content)
    bodies = {
        name: body for name, body in image.repository.manifests.items() if not name.endswith(image.digest.hex)
    }
    for body in bodies.values():
        repository.put_manifest(parse_manifest(body))
    for name, body in bodies.items():
        if ":" not in name:
            record = TagRecord(Digest.of(body), OCI_MANIFEST, len(body), pushed=0.0)
            repository.put_tag(Tag(name), record)


def _outcome(world: World, image: SignedImage, source: SignatureSource, who: str) -> VerdictOutcome:
    policy = world.policies({"match": ["**"], "signatures": {"from": [signer(who)]}}).for_image(SOURCE, "v1")
    return judge(image.digest, OCI_MANIFEST, source, policy, size=len(image.body)).outcome


@pytest.mark.parametrize("who", ["key", "keyless", "notation"])
def test_store_and_upstream_give_the_same_verdict(world: World, registry: Registry, who: str) -> None:
    image = world.image(f"over http, {who}")
    entry = RegistryEntry.model_validate({"urls": [registry.url]})
    with UpstreamRegistry(entry, NoCredentials()) as upstream:
        sources: list[SignatureSource] = [
            StoreSource(registry.store.repository(RepositoryName(NAME))),
            UpstreamSource(upstream, NAME),
        ]
        assert {_outcome(world, image, source, who) for source in sources} == {VerdictOutcome.REFUSED}
        image.cosign(key=world.key).notary("cose")
        image.bundle(world.sigstore.bundle_dsse(image.statement(), world.sigstore.leaf()))
        _publish(image, registry.store)
        assert {_outcome(world, image, source, who) for source in sources} == {VerdictOutcome.VERIFIED}


def test_an_upstream_that_is_down_is_an_error_and_never_unsigned(world: World, tmp_path: Path) -> None:
    with running_registry(tmp_path) as gone:
        url = gone.url
    entry = RegistryEntry.model_validate({"urls": [url]})
    with (
        UpstreamRegistry(entry, NoCredentials(), sleep=lambda _: None) as upstream,
        pytest.raises(UpstreamError),
    ):
        _outcome(world, world.image(), UpstreamSource(upstream, NAME), "key")
