"""Indexes of which a part is gone upstream, or is not wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry_server.oci.descriptor import Descriptor, Platform
from tests.in_the_wild.cases.rows import Row
from tests.tasks.runs import add_index

if TYPE_CHECKING:
    from tests.support_misbehaving import Misbehaving

APP: Final = "library/app"
ONE: Final = (f"{APP}:1",)
SPARSE: Final = {"prefix": "**", "missingChildren": "sparse"}
ATTESTATION: Final = {"vnd.docker.reference.type": "attestation-manifest"}


def _entry(
    upstream: Misbehaving, name: str, platform: str, annotations: dict[str, str] | None = None
) -> Descriptor:
    found = upstream.add_image(APP, name, (name.encode(),)).manifest
    upstream.repositories[APP].tags.remove(name)
    return Descriptor(
        found.media_type,
        found.digest,
        found.size,
        platform=Platform.parse(platform),
        annotations=annotations or {},
    )


def _remove(upstream: Misbehaving, child: Descriptor) -> None:
    del upstream.repositories[APP].manifests[child.digest]


def one_gone(upstream: Misbehaving) -> Descriptor:
    """The entry that is gone."""
    here, gone = _entry(upstream, "here", "linux/amd64"), _entry(upstream, "gone", "linux/arm64")
    add_index(upstream, APP, "1", here, gone)
    _remove(upstream, gone)
    return gone


def _all_gone(upstream: Misbehaving) -> None:
    children = [_entry(upstream, name, "linux/amd64") for name in ("a", "b")]
    add_index(upstream, APP, "1", *children)
    for child in children:
        _remove(upstream, child)


def _nested_gone(upstream: Misbehaving) -> None:
    here, gone = _entry(upstream, "here", "linux/amd64"), _entry(upstream, "gone", "linux/arm64")
    inner = add_index(upstream, APP, "inner", here, gone)
    upstream.repositories[APP].tags.remove("inner")
    add_index(upstream, APP, "1", inner)
    _remove(upstream, gone)


def attested(upstream: Misbehaving) -> Descriptor:
    """As BuildKit lists it; the attestation is returned."""
    image = _entry(upstream, "image", "linux/amd64")
    notes = ATTESTATION | {"vnd.docker.reference.digest": str(image.digest)}
    attestation = _entry(upstream, "attestation", "unknown/unknown", notes)
    add_index(upstream, APP, "1", image, attestation)
    return attestation


def _attestation_gone(upstream: Misbehaving) -> None:
    _remove(upstream, attested(upstream))


ROWS: Final = (
    Row(
        "an index with an entry that is gone",
        "mindthegap 20",
        one_gone,
        failed={ONE[0]: "404 Not Found"},
    ),
    Row(
        "an index that is taken without the entry that is gone",
        "mindthegap 20",
        one_gone,
        ONE,
        notes=(
            r"left out what its index lists and the upstream does not have any more .*: sha256:[0-9a-f]{64}$",
        ),
        content=(SPARSE,),
    ),
    Row(
        "an index in an index, with an entry that is gone",
        "image-spec: image-index.md",
        _nested_gone,
        ONE,
        notes=("left out what its index lists",),
        content=(SPARSE,),
    ),
    Row(
        "an index of which nothing is left",
        "image-spec: image-index.md",
        _all_gone,
        failed={ONE[0]: "all that its index lists is gone upstream"},
        content=(SPARSE,),
    ),
    Row(
        "an index is taken in part only where all rules say so",
        "mindthegap 20",
        one_gone,
        failed={ONE[0]: "404 Not Found"},
        content=(SPARSE, {"prefix": APP}),
    ),
    Row("an index with an attestation", "docs.docker.com: attestation storage", attested, ONE),
    Row(
        "an attestation that is gone is not missed where it is not wanted",
        "docs.docker.com: attestation storage",
        _attestation_gone,
        ONE,
        content=({"prefix": "**", "attestationManifests": False},),
    ),
    Row(
        "a smaller index without the attestation",
        "docs.docker.com: attestation storage",
        attested,
        ONE,
        content=(
            {
                "prefix": "**",
                "attestationManifests": False,
                "platforms": {"only": ["linux/amd64"], "rewrite": True},
            },
        ),
    ),
)
