"""Images of a bundle that were converted, that list others, or that say to be something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci import conversion, media_types
from registry_server.oci.digest import Digest
from registry_server.oci.forms import Form
from registry_server.oci.reference import Tag
from registry_server.store.records import Origin, TagRecord
from tests.registry_server.store.images import check, image, index, layer, manifest, put_image
from tests.tasks.stored.bundles.applying import applied, bundled, far, near, reasons, resigned, tags

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.repository import Repository
    from tests.tasks.stored.bundles.sides import Gap


def test_an_image_that_is_said_to_be_another_one_stays_out(strict: Gap) -> None:
    """The signature is for the digest of the origin, and another one would be served."""
    signed = strict.near.put("team/app:good", b"good")
    strict.near.sign("team/app", signed)
    evil = put_image(near(strict), b"evil")
    origin = Origin("hub", "team/app", signed.digest)
    record = TagRecord(evil.digest, evil.media_type, evil.size, 1.5, origin)
    near(strict).put_tag(Tag("evil"), record)
    found = reasons(applied(strict.far, bundled(strict)))
    assert found == {"team/app:evil": f"it is said to be {signed.digest}, and is {evil.digest}"}
    assert not far(strict).has_blob(Digest.of(b"evil"))


def _docker(repository: Repository, content: bytes) -> tuple[Descriptor, Descriptor]:
    """An image of Docker's types, and what the mirror converts it to; both are stored."""
    config = layer(b'{"os": "linux"}', media_types.DOCKER_CONFIG)
    zipped = layer(content, "application/vnd.docker.image.rootfs.diff.tar.gzip")
    for each, body in ((config, b'{"os": "linux"}'), (zipped, content)):
        repository.put_blob(each, body)
    original = manifest(
        {
            "mediaType": media_types.DOCKER_MANIFEST,
            "config": config.to_json(),
            "layers": [zipped.to_json()],
        }
    )
    converted = conversion.changed(original, oci=True, renamed={})
    return repository.put_manifest(original), repository.put_manifest(converted)


def _convert(sides: Gap, tag: str, original: Descriptor, converted: Descriptor, form: Form) -> None:
    origin = Origin("hub", "team/app", original.digest, form)
    record = TagRecord(converted.digest, converted.media_type, converted.size, 1.5, origin)
    near(sides).put_tag(Tag(tag), record)


def test_a_converted_image_comes_in_by_the_signature_of_its_original(strict: Gap) -> None:
    original, converted = _docker(near(strict), b"layer")
    strict.near.sign("team/app", original)
    _convert(strict, "v1", original, converted, Form(oci=True))
    assert reasons(applied(strict.far, bundled(strict))) == {}
    record = far(strict).tag(Tag("v1"))
    assert record is not None
    assert (record.digest, record.upstream_digest) == (converted.digest, original.digest)
    assert check(strict.far.store) == 2


@pytest.mark.parametrize(
    ("form", "words"),
    [
        pytest.param(Form(oci=True), "it is said to be converted from", id="another image"),
        pytest.param(Form(oci=True, version=99), "converted by another version", id="another version"),
    ],
)
def test_a_conversion_that_is_none_stays_out(strict: Gap, form: Form, words: str) -> None:
    original, _ = _docker(near(strict), b"layer")
    strict.near.sign("team/app", original)
    evil = put_image(near(strict), b"evil")
    _convert(strict, "v1", original, evil, form)
    assert words in reasons(applied(strict.far, bundled(strict)))["team/app:v1"]
    assert tags(strict) == set()


def test_an_index_with_all_its_platforms_is_applied(plain: Gap) -> None:
    children = [image(b"one"), image(b"two")]
    for content in (b"one", b"two"):
        put_image(near(plain), content)
    listed = near(plain).put_manifest(index(*children))
    plain.near.tag("team/app:v1", listed)
    assert reasons(applied(plain.far, bundled(plain))) == {}
    assert check(plain.far.store) == 1
    assert all(far(plain).has_blob(each.descriptor().digest) for each in children)


def test_an_index_without_a_platform_that_it_does_not_declare_stays_out(plain: Gap) -> None:
    here, absent = image(b"one"), image(b"two").descriptor().digest
    put_image(near(plain), b"one")
    listed = near(plain).put_manifest(index(here, image(b"two")))
    plain.near.tag("team/app:v1", listed, sparse=(absent,))
    folder = bundled(plain)
    resigned(plain, folder, lambda found: found["images"][0]["record"].pop("sparse"))
    assert reasons(applied(plain.far, folder)) == {
        "team/app:v1": f"the bundle lacks {absent}, which its index lists"
    }


def test_indexes_within_indexes_end_somewhere(plain: Gap) -> None:
    put_image(near(plain), b"layer")
    found = image(b"layer")
    for _ in range(20):
        near(plain).put_manifest(found)
        found = index(found)
    plain.near.tag("team/app:v1", near(plain).put_manifest(found))
    assert "its manifests are deeper than 16" in reasons(applied(plain.far, bundled(plain)))["team/app:v1"]
