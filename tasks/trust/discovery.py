"""Finding what may be a signature of an image (signatures.md 1a-1e).

What a list of referrers says of its entries is never believed: cosign's fallback indexes carry wrong or no
artifact types (cosign #4641), so each referrer's manifest is fetched and looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.errors import ContentError, InvalidName
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from tasks.trust import simple_signing
from tasks.trust.candidates import (
    AttestationLayer,
    CosignLayer,
    NotationSignature,
    SigstoreBundle,
    Unusable,
)
from tasks.trust.errors import Refused, in_short

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from registry_server.oci.descriptor import Descriptor
    from tasks.trust.candidates import Candidate
    from tasks.trust.source import SignatureSource

MOST_SIGNATURES: Final = 100  # looked at for one image, as notation does by default
MOST_BYTES: Final = 64 * 2**20  # of all signatures of one image
MOST_REFERRERS: Final = 200  # whose manifests are fetched, those first that say they are signatures
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle"
_NOTATION: Final = "application/vnd.cncf.notary.signature"
_COSIGN: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
_DSSE: Final = "application/vnd.dsse.envelope.v1+json"
_LARGEST: Final = {
    _BUNDLE: 32 * 2**20,
    _DSSE: 32 * 2**20,
    simple_signing.MEDIA_TYPE: 64 * 2**10,
    "": 4 * 2**20,  # Notary Project envelopes
}


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for: formats of "bundle", "legacy", "notation", and attestations or not."""

    image: Digest
    formats: Collection[str]
    attestations: bool = False


def discover(source: SignatureSource, search: Search) -> Iterator[Candidate]:
    """Lazily, the likeliest places first: whoever has enough stops asking, and the rest is not fetched.

    At most `MOST_SIGNATURES`; one more is answered as `Unusable`. Raises only what the source raises.
    """
    for number, candidate in enumerate(_everywhere(_Metered(source), search)):
        if number == MOST_SIGNATURES:
            yield Unusable(candidate.where, f"only the first {MOST_SIGNATURES} signatures are looked at")
            return
        yield candidate


class _Metered:
    """A source that gives out `MOST_BYTES` of blobs: a hundred bundles of the largest size are gigabytes."""

    def __init__(self, source: SignatureSource) -> None:
        self._source = source
        self._left = MOST_BYTES
        self.referrers, self.manifest, self.tags = source.referrers, source.manifest, source.tags

    def blob(self, descriptor: Descriptor) -> bytes | None:
        """Raises `Refused` when there is nothing left to give."""
        if descriptor.size > self._left:
            raise Refused(f"all signatures of an image may have {MOST_BYTES} bytes together")
        self._left -= descriptor.size
        return self._source.blob(descriptor)


def _everywhere(source: SignatureSource, search: Search) -> Iterator[Candidate]:
    referrers = _in_order(_referrers(source, search.image))
    for descriptor in referrers[:MOST_REFERRERS]:
        yield from _referrer(source, descriptor, search)
    if len(referrers) > MOST_REFERRERS:
        reason = f"only {MOST_REFERRERS} of {len(referrers)} referrers are looked at"
        yield Unusable("referrers", reason)
    if "legacy" not in search.formats:
        return
    if search.image.algorithm != "sha256":
        return  # with a longer digest cosign's name would be no tag any more
    suffixes = ("sig", "att") if search.attestations else ("sig",)
    known = source.tags()
    for suffix in suffixes:
        tag = f"{search.image.replace(':', '-')}.{suffix}"
        if known is None or tag in known:
            yield from _tagged(source, tag)


def _referrers(source: SignatureSource, image: Digest) -> Sequence[Descriptor]:
    found = source.referrers(image)
    return _fallback(source, image) if found is None else found


def _fallback(source: SignatureSource, image: Digest) -> Sequence[Descriptor]:
    """distribution-spec, "Referrers Tag Schema": an index under a tag made of the digest."""
    tag = f"{image.algorithm[:32]}-{image.hex[:64]}"
    known = source.tags()
    body = source.manifest(tag) if known is None or tag in known else None
    if body is None:
        return ()
    try:
        index = parse_manifest(body)
    except ContentError:
        return ()
    return index.manifests if index.is_index else ()


def _in_order(referrers: Sequence[Descriptor]) -> list[Descriptor]:
    """What says that it is a signature first; nothing is left out for what it says."""
    return sorted(referrers, key=lambda descriptor: not _says_signature(descriptor))


def _says_signature(descriptor: Descriptor) -> bool:
    return (descriptor.artifact_type or "").startswith((_BUNDLE, _NOTATION, _COSIGN))


def _referrer(source: SignatureSource, descriptor: Descriptor, search: Search) -> Iterator[Candidate]:
    where = f"referrer {descriptor.digest.short}"
    if descriptor.size > MAX_MANIFEST_BYTES:
        yield Unusable(where, f"its manifest is larger than {MAX_MANIFEST_BYTES} bytes")
        return
    body = source.manifest(descriptor.digest)
    if body is None:
        yield Unusable(where, "it is listed as a referrer and is not there")
        return
    try:
        manifest = _checked_manifest(body, descriptor.digest)
    except ContentError as error:
        yield Unusable(where, in_short(error))
        return
    yield from _in_manifest(source, manifest, where, search)


def _checked_manifest(body: bytes, digest: Digest) -> Manifest:
    if Digest.of(body, digest.algorithm) != digest:
        raise ContentError("its manifest does not have the digest it was asked for")
    return parse_manifest(body)


def _in_manifest(
    source: SignatureSource, manifest: Manifest, where: str, search: Search
) -> Iterator[Candidate]:
    """The signatures in a referrer, if it is of a wanted kind and says that it refers to this image."""
    kind = _kind(manifest)
    if kind is None or not _wanted(kind, search):
        return
    if manifest.subject is None or manifest.subject.digest != search.image:
        yield Unusable(where, "its subject is another image")
    elif kind == _NOTATION and len(manifest.layers) != 1:
        yield Unusable(where, f"it has {len(manifest.layers)} layers; expected one", "notation")
    else:
        yield from _layers(source, manifest, where, kind)


def _kind(manifest: Manifest) -> str | None:
    """By artifactType, then by the config's type, then by the first layer's: writers differ."""
    first = manifest.layers[0].media_type if manifest.layers else ""
    config = manifest.config.media_type if manifest.config else ""
    for text in (manifest.artifact_type or "", config, first):
        for kind in (_BUNDLE, _NOTATION, _COSIGN, simple_signing.MEDIA_TYPE, _DSSE):
            if text.startswith(kind):
                return kind
    return None


def _wanted(kind: str, search: Search) -> bool:
    needed = {_BUNDLE: "bundle", _NOTATION: "notation"}.get(kind, "legacy")
    return needed in search.formats and (kind != _DSSE or search.attestations)


def _tagged(source: SignatureSource, tag: str) -> Iterator[Candidate]:
    body = source.manifest(tag)
    if body is None:
        return
    where = f"tag {tag[:19]}…{tag[-4:]}"
    try:
        manifest = parse_manifest(body)
    except (ContentError, InvalidName) as error:
        yield Unusable(where, in_short(error))
        return
    kind = _DSSE if tag.endswith(".att") else _COSIGN
    yield from _layers(source, manifest, where, kind)


def _layers(source: SignatureSource, manifest: Manifest, where: str, kind: str) -> Iterator[Candidate]:
    for number, layer in enumerate(manifest.layers[: MOST_SIGNATURES + 1], 1):
        place = where if len(manifest.layers) == 1 else f"{where}, layer {number}"
        try:
            content = _content(source, layer)
        except Refused as error:
            yield Unusable(place, str(error))
            continue
        yield _candidate(kind, layer, content, place, manifest)


def _content(source: SignatureSource, layer: Descriptor) -> bytes:
    largest = max(size for kind, size in _LARGEST.items() if layer.media_type.startswith(kind))
    if layer.media_type == simple_signing.MEDIA_TYPE:
        largest = _LARGEST[layer.media_type]
    if layer.size > largest:
        raise Refused(f"it has {layer.size} bytes; at most {largest} are looked at")
    content = layer.data if layer.data is not None else source.blob(layer)
    if content is None:
        raise Refused("its content is not there")
    if len(content) != layer.size or Digest.of(content, layer.digest.algorithm) != layer.digest:
        raise Refused("its content is not what its digest promises")
    return content


def _candidate(kind: str, layer: Descriptor, content: bytes, where: str, manifest: Manifest) -> Candidate:
    if kind == _BUNDLE and layer.media_type.startswith(_BUNDLE):
        return SigstoreBundle(where, content)
    if kind == _NOTATION:
        return NotationSignature(where, layer.media_type, content, manifest.subject)
    if layer.media_type == simple_signing.MEDIA_TYPE:
        return CosignLayer(where, layer.media_type, content, layer.annotations)
    if layer.media_type == _DSSE:
        return AttestationLayer(where, content, layer.annotations)
    return Unusable(where, f"a layer of type {layer.media_type[:80]} is no signature")
