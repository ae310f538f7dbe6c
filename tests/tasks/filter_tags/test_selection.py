"""What a `select` expression sees: as the profile's reference promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flows.demo.sample_images import AMD64, ARM64, layer
from profiles.image_parts import ImageParts
from profiles.patterns.select_expression import DOCUMENT
from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from tasks.filter_tags.selection import describe
from tasks.run.errors import WrongContent
from tests.support_behaviours import answers
from tests.tasks.runs import add_document, add_index, opened
from tests.tasks.things import image

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.digest import Digest as AnyDigest
    from tests.support.registries import Registry
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
LABELS = {"org.opencontainers.image.vendor": "Example"}
LAYERS = [layer("selection", 100)]


def document(folder: Path, url: str, made: Descriptor, **more: Any) -> dict[str, Any]:
    with opened(folder, url) as run:
        about = {"digest": made.digest, "media_type": made.media_type} | more
        return describe(run, image(f"{NAME}:1.25", **about))


def test_the_document_of_an_image_has_every_field_that_the_reference_lists(
    registry: Registry, tmp_path: Path
) -> None:
    made = registry.maker(NAME).image(LAYERS, ARM64, labels=LABELS)
    found = document(tmp_path, registry.url, made)
    assert set(found) == set(DOCUMENT)
    assert found["repository"] == NAME
    assert found["tag"] == "1.25"
    assert found["digest"] == str(made.digest)
    assert found["mediaType"] == media_types.OCI_MANIFEST
    assert found["manifest"]["config"]["mediaType"] == media_types.OCI_CONFIG
    assert found["config"]["architecture"] == "arm64"
    assert found["labels"] == LABELS
    assert found["platforms"] == ["linux/arm64/v8"]
    assert found["created"] == 1_709_251_200
    assert json.loads(json.dumps(found)) == found


def test_of_an_index_the_config_is_that_of_the_platform_that_the_rule_names_first(
    registry: Registry, tmp_path: Path
) -> None:
    maker = registry.maker(NAME)
    made = maker.index(
        [
            (maker.image(LAYERS, ARM64), ARM64),
            (maker.image(LAYERS, AMD64, labels=LABELS), AMD64),
        ]
    )
    found = document(tmp_path, registry.url, made)
    assert found["platforms"] == ["linux/arm64/v8", "linux/amd64"]
    assert found["config"]["architecture"] == "amd64", "where the rule names none"
    assert found["labels"] == LABELS
    again = document(tmp_path, registry.url, made, parts=ImageParts((Platform("linux", "arm64"),)))
    assert again["config"]["architecture"] == "arm64"


def test_an_artifact_has_no_config_and_an_image_by_digest_no_tag(registry: Registry, tmp_path: Path) -> None:
    made = registry.maker(NAME).artifact(
        "application/vnd.example", b"content", content_type="text/plain", annotations={"a": "b"}
    )
    found = document(tmp_path, registry.url, made, reference=made.digest)
    assert (found["config"], found["tag"], found["created"]) == (None, None, None)
    assert (found["labels"], found["platforms"], found["annotations"]) == ({}, [], {"a": "b"})


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        (b"not json", None),
        (b"[]", None),
        (b'{"config": null, "created": 7}', {"config": None, "created": 7}),
        (b'{"config": [], "created": "yesterday"}', {"config": [], "created": "yesterday"}),
        (b'{"config": {"Labels": null}}', {"config": {"Labels": None}}),
        (b'{"created": "2024-13-01T00:00:00Z"}', {"created": "2024-13-01T00:00:00Z"}),
    ],
)
def test_a_config_is_whatever_the_builder_wrote_and_breaks_nothing(
    upstream: Misbehaving, tmp_path: Path, config: bytes, shown: object
) -> None:
    blob = upstream.add_blob(NAME, config, media_types.OCI_CONFIG)
    made = add_document(upstream, NAME, "1.25", media_types.OCI_MANIFEST, config=blob.to_json(), layers=[])
    found = document(tmp_path, f"http://{upstream.host}", made)
    assert (found["config"], found["labels"], found["created"]) == (shown, {}, None)


def test_a_config_with_another_digest_is_refused_and_says_which(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    made = upstream.add_image(NAME, "1.25")
    path = f"/v2/{NAME}/blobs/{made.config.digest}"
    upstream.on(path, answers(200, b"[]"))
    with pytest.raises(WrongContent, match=f"{upstream.host}: {NAME}@{made.config.digest}: expected content"):
        document(tmp_path, f"http://{upstream.host}", made.manifest)


def test_the_entries_of_a_buildkit_cache_are_not_asked_for_as_manifests(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    made = add_index(upstream, NAME, "1.25", upstream.add_blob(NAME, b"layer", "application/x.layer.v1"))
    assert document(tmp_path, f"http://{upstream.host}", made)["config"] is None
    assert len(upstream.requests("GET")) == 1


def test_indexes_nested_without_an_end_end(upstream: Misbehaving, tmp_path: Path) -> None:
    made = upstream.add_image(NAME, "leaf").manifest
    for number in range(60):
        made = add_index(upstream, NAME, f"n{number}", made)
    assert document(tmp_path, f"http://{upstream.host}", made)["config"] is None
    assert len(upstream.requests("GET")) <= 17


def test_nothing_is_stored_by_looking_and_what_is_stored_is_not_asked_for(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    made = upstream.add_image(NAME, "1.25")
    with opened(tmp_path, f"http://{upstream.host}") as run:
        about = image(f"{NAME}:1.25", digest=made.manifest.digest, media_type=made.manifest.media_type)
        describe(run, about)
        describe(run, about)
        assert len(upstream.requests("GET", "manifests")) == 1
        assert not run.store.repository(RepositoryName(NAME)).pool_holds(made.manifest.digest)


def test_what_was_looked_at_is_remembered_up_to_a_bound(upstream: Misbehaving, tmp_path: Path) -> None:
    digests: list[AnyDigest] = []
    with opened(tmp_path, f"http://{upstream.host}") as run:
        run.recent.limit = 1000
        for number in range(10):
            made = upstream.add_image(NAME, str(number), (b"%d" % number,))
            digests.append(made.manifest.digest)
            describe(run, image(f"{NAME}:{number}", digest=made.manifest.digest, media_type=""))
        held = [run.recent.find(NAME, Digest(each)) is not None for each in digests]
    assert held[0] is False
    assert held[-1] is True
    assert sum(held) < 5
