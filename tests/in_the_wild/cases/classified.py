"""Tags that are named after a digest: images, lists of referrers, companions with and without an image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from tasks.filter_tags.referrer_lists import NO_IMAGE
from tasks.filter_tags.wanted import NO_SUBJECT, NOT_FOLLOWED
from tests.in_the_wild.cases.rows import Row
from tests.support_misbehaving import answers
from tests.tasks.runs import add_document, add_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Misbehaving

APP: Final = "library/app"
ABSENT: Final = Digest.of(b"the image of somebody else")
LAYER: Final = b"known content"
AMD64: Final = Platform("linux", "amd64")


def stem(digest: Digest) -> str:
    return digest.replace(":", "-")


def _document() -> dict[str, object]:
    config = Descriptor(media_types.OCI_CONFIG, Digest.of(b"{}"), 2)
    layer = Descriptor("application/octet-stream", Digest.of(LAYER), len(LAYER))
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    }


# What `_image(upstream, "v1")` makes, which is the same for every upstream.
_BODY: Final = json.dumps(_document()).encode()
V1: Final = Digest.of(_BODY)


def _image(upstream: Misbehaving, tag: str, layer: bytes = LAYER) -> Descriptor:
    return upstream.add_image(APP, tag, (layer,)).manifest


def image_under(tag: str) -> Callable[[Misbehaving], object]:
    def arrange(upstream: Misbehaving) -> None:
        _image(upstream, "v1")
        _image(upstream, tag, b"another one")

    return arrange


def index_under(tag: str, platform: Platform | None) -> Callable[[Misbehaving], object]:
    def arrange(upstream: Misbehaving) -> None:
        child = _image(upstream, "v1")
        entry = Descriptor(child.media_type, child.digest, child.size, platform=platform)
        add_index(upstream, APP, tag, entry)

    return arrange


def _named_after_itself(upstream: Misbehaving) -> None:
    """As oc-mirror names what it mirrored by digest; here an index of artifacts, without platforms."""
    child = _image(upstream, "v1")
    found = add_index(upstream, APP, "other", child)
    add_index(upstream, APP, stem(found.digest), child)
    assert stem(found.digest) == SELF


def _self() -> str:
    entries = [Descriptor(media_types.OCI_MANIFEST, V1, len(_BODY)).to_json()]
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    return stem(Digest.of(json.dumps(index).encode()))


SELF: Final = _self()


def arrange_referrers(upstream: Misbehaving) -> None:
    """A registry without the referrers API: a client keeps the list under the tag."""
    subject = _image(upstream, "v1")
    config = upstream.add_blob(APP, b"{}", media_types.OCI_EMPTY)
    report = upstream.add_blob(APP, b"what is in it", "application/spdx+json")
    sbom = add_document(
        upstream,
        APP,
        "to-be-untagged",
        media_types.OCI_MANIFEST,
        artifactType="application/spdx+json",
        config=config.to_json(),
        layers=[report.to_json()],
        subject=subject.to_json(),
    )
    upstream.repositories[APP].tags.remove("to-be-untagged")
    add_index(upstream, APP, stem(subject.digest), sbom)


def _emptied(upstream: Misbehaving) -> None:
    subject = _image(upstream, "v1")
    add_index(upstream, APP, stem(subject.digest))


def _unreadable(upstream: Misbehaving) -> None:
    arrange_referrers(upstream)
    digest = upstream.repositories[APP].manifests[stem(V1)][1]
    upstream.on(f"/v2/{APP}/manifests/{Digest.of(digest)}", answers(500))
    upstream.on(f"/v2/{APP}/referrers/{V1}", answers(200, b'{"schemaVersion": 2, "manifests": []}'))


ROWS: Final = (
    Row(
        "an image whose tag is made of the digest of something that is not here",
        "oc-mirror 981",
        image_under(stem(ABSENT)),
        mirrored=(f"{APP}:v1", f"{APP}:{stem(ABSENT)}"),
        dropped={},
    ),
    Row(
        "an image whose tag is made of the digest of another image that is here",
        "oc-mirror 981",
        image_under(stem(V1)),
        mirrored=(f"{APP}:v1", f"{APP}:{stem(V1)}"),
        dropped={},
    ),
    Row(
        "a multi-platform image under such a tag",
        "oc-mirror 981",
        index_under(stem(ABSENT), AMD64),
        mirrored=(f"{APP}:v1", f"{APP}:{stem(ABSENT)}"),
        dropped={},
    ),
    Row(
        "an index without platforms whose tag is made of its own digest",
        "oc-mirror 981; distribution-spec: Referrers Tag Schema",
        _named_after_itself,
        mirrored=(f"{APP}:v1", f"{APP}:other", f"{APP}:{SELF}"),
        dropped={},
    ),
    Row(
        "a list of referrers is no image, and is named",
        "distribution-spec: Referrers Tag Schema",
        arrange_referrers,
        mirrored=(f"{APP}:v1",),
        dropped={NO_IMAGE: 1},
        unlike_peers="it is a list of referrers, and our own referrers API answers for it",
    ),
    Row(
        "a list of referrers from which the last one was removed",
        "distribution-spec: Referrers Tag Schema",
        _emptied,
        mirrored=(f"{APP}:v1",),
        dropped={NO_IMAGE: 1},
    ),
    Row(
        "a list of referrers of an image that is not here",
        "distribution-spec: Referrers Tag Schema",
        index_under(stem(ABSENT), None),
        mirrored=(f"{APP}:v1",),
        dropped={NO_IMAGE: 1},
        unlike_peers="it is a list of referrers, and our own referrers API answers for it",
    ),
    Row(
        "what cannot be told apart is a failure of that tag",
        "distribution-spec: Referrers Tag Schema",
        _unreadable,
        mirrored=(f"{APP}:v1",),
        failed={f"{APP}:{stem(V1)}": "500 Internal Server Error"},
        unlike_peers="read by its digest, which fails",
    ),
    Row(
        "a rule chooses among such images by their names as well",
        "oc-mirror 981",
        image_under(stem(ABSENT)),
        mirrored=(f"{APP}:{stem(ABSENT)}",),
        content=({"prefix": "**", "tags": {"regex": "sha256-.*"}},),
        dropped={"does not match regex sha256-.*": 1},
        unlike_peers="the rule drops it",
    ),
    Row(
        "a companion comes with its image, whatever the rule says about tags",
        "sigstore/cosign specs/SIGNATURE_SPEC.md",
        image_under(f"{stem(V1)}.sig"),
        mirrored=(f"{APP}:v1", f"{APP}:{stem(V1)}.sig"),
        content=({"prefix": "**", "tags": {"regex": "v1"}},),
        dropped={},
    ),
    Row(
        "a companion without its image is left out, and is named",
        "sigstore/cosign specs/SIGNATURE_SPEC.md",
        image_under(f"{stem(ABSENT)}.sig"),
        mirrored=(f"{APP}:v1",),
        dropped={NO_SUBJECT: 1},
        unlike_peers="no rule takes its image",
    ),
    Row(
        "companions that the entry does not want are named",
        "sigstore/cosign specs/SIGNATURE_SPEC.md",
        image_under(f"{stem(V1)}.sig"),
        mirrored=(f"{APP}:v1",),
        entry={"syncLegacyCosignTags": False},
        dropped={NOT_FOLLOWED: 1},
        unlike_peers="the entry says so",
    ),
)
