"""Finding what may be a signature of an image.

What a list of referrers says of its entries is never believed: cosign's fallback indexes carry wrong or no
artifact types (cosign #4641), so each referrer's manifest is fetched and looked at. It decides the order
alone: first what says that the policy asks for it, then cosign's tags, then the rest. So attestations of
other predicates, notation signatures beside cosign's and large objects do not use up the limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ContentError, InvalidName
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, Manifest, parse_entries, parse_manifest
from tasks.trust.candidates import (
    AttestationLayer,
    CosignLayer,
    NotationSignature,
    SigstoreBundle,
    Unusable,
)
from tasks.trust.errors import Refused, in_short
from tasks.trust.formats import simple_signing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from registry_server.oci.descriptor import Descriptor
    from tasks.trust.candidates import Candidate
    from tasks.trust.sources import SignatureSource

    _Later = Callable[[], Iterator[Candidate]]

MOST_SIGNATURES: Final = 300  # looked at for one image
MOST_BYTES: Final = 64 * 2**20  # of all signatures of one image
MOST_REFERRERS: Final = 500  # whose manifests are fetched
SMALL: Final = 256 * 2**10  # bytes of a signature; what is larger is looked at after all others
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle"
_NOTATION: Final = "application/vnd.cncf.notary.signature"
_COSIGN: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
# Of a bundle's manifest, unsigned (sigstore/cosign specs/BUNDLE_SPEC.md).
_PREDICATE: Final = "dev.sigstore.bundle.predicateType"
_DSSE: Final = "application/vnd.dsse.envelope.v1+json"
_LARGEST: Final = {
    _BUNDLE: 32 * 2**20,
    _DSSE: 32 * 2**20,
    simple_signing.MEDIA_TYPE: 64 * 2**10,
    "": 4 * 2**20,  # Notary Project envelopes
}


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for: formats of "bundle", "legacy", "notation", and attestations or not.

    `predicates`: the types of attestation that count for anything; empty: they are not known.
    """

    image: Digest
    formats: Collection[str]
    attestations: bool = False
    predicates: Collection[str] = ()

    def asks_for(self, predicate: str | None) -> bool:
        """Whether an attestation that says it is of this type may count."""
        return predicate is None or not self.predicates or predicate in self.predicates


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


@dataclass(frozen=True, slots=True)
class _Visit:
    """One search in one place; `last` is what is looked at after everything else."""

    source: SignatureSource
    search: Search
    last: list[_Later] = field(default_factory=list)


def _everywhere(source: SignatureSource, search: Search) -> Iterator[Candidate]:
    referrers, problem = _referrers(source, search.image)
    if problem:
        yield Unusable("list of referrers", problem)
    at = _Visit(source, search)
    likely = [each for each in referrers if _is_likely(each, search)]
    rest = [each for each in referrers if not _is_likely(each, search)]
    for descriptor in likely[:MOST_REFERRERS]:
        yield from _referrer(at, descriptor)
    yield from _tags(at)
    for descriptor in rest[: max(0, MOST_REFERRERS - len(likely))]:
        yield from _referrer(at, descriptor)
    for later in at.last:
        yield from later()
    if len(referrers) > MOST_REFERRERS:
        reason = f"only {MOST_REFERRERS} of {len(referrers)} referrers are looked at"
        yield Unusable("referrers", reason)


def _tags(at: _Visit) -> Iterator[Candidate]:
    """cosign's tags; with a longer digest than SHA-256 its name would be no tag any more."""
    if "legacy" not in at.search.formats or at.search.image.algorithm != "sha256":
        return
    suffixes = ("sig", "att") if at.search.attestations else ("sig",)
    known = at.source.tags()
    for suffix in suffixes:
        tag = f"{at.search.image.replace(':', '-')}.{suffix}"
        if known is None or tag in known:
            yield from _tagged(at, tag)


def _referrers(source: SignatureSource, image: Digest) -> tuple[Sequence[Descriptor], str]:
    """What refers to the image; and why some of it is not known, or ""."""
    found = source.referrers(image)
    return _fallback(source, image) if found is None else (found, "")


def _fallback(source: SignatureSource, image: Digest) -> tuple[Sequence[Descriptor], str]:
    """distribution-spec, "Referrers Tag Schema": an index under a tag made of the digest."""
    tag = fallback_tag(image)
    known = source.tags()
    try:
        body = source.manifest(tag) if known is None or tag in known else None
        if body is None:
            return (), ""
        found, problems = parse_entries(body)
    except (ContentError, Refused):  # something else that has such a tag
        return (), ""
    return found, (f"{len(problems)} of its entries cannot be used: {problems[0]}" if problems else "")


def _is_likely(descriptor: Descriptor, search: Search) -> bool:
    """Whether it says that it is something that the policy asks for."""
    kind = descriptor.artifact_type or ""
    if kind.startswith(_BUNDLE):
        return "bundle" in search.formats and search.asks_for(descriptor.annotations.get(_PREDICATE))
    if kind.startswith(_NOTATION):
        return "notation" in search.formats
    return kind.startswith(_COSIGN) and "legacy" in search.formats


def _referrer(at: _Visit, descriptor: Descriptor) -> Iterator[Candidate]:
    where = f"referrer {descriptor.digest.short}"
    if descriptor.size > MAX_MANIFEST_BYTES:
        yield Unusable(where, f"its manifest is larger than {MAX_MANIFEST_BYTES} bytes")
        return
    try:
        body = at.source.manifest(descriptor.digest)
        if body is None:
            raise Refused("it is listed as a referrer and is not there")
        manifest = _checked_manifest(body, descriptor.digest)
    except (ContentError, Refused) as error:
        yield Unusable(where, in_short(error))
        return
    yield from _in_manifest(at, manifest, where)


def _checked_manifest(body: bytes, digest: Digest) -> Manifest:
    if Digest.of(body, digest.algorithm) != digest:
        raise ContentError("its manifest does not have the digest it was asked for")
    return parse_manifest(body)


def _in_manifest(at: _Visit, manifest: Manifest, where: str) -> Iterator[Candidate]:
    """The signatures in a referrer, if it is of a wanted kind and says that it refers to this image."""
    kind = _kind(manifest)
    if kind is None or not _wanted(kind, at.search):
        return
    if manifest.subject is None or manifest.subject.digest != at.search.image:
        yield Unusable(where, "its subject is another image")
    elif kind == _NOTATION and len(manifest.layers) != 1:
        yield Unusable(where, f"it has {len(manifest.layers)} layers; expected one", "notation")
    else:
        yield from _layers(at, manifest, where, kind)


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


def _tagged(at: _Visit, tag: str) -> Iterator[Candidate]:
    where = f"tag {tag[:19]}…{tag[-4:]}"
    try:
        body = at.source.manifest(tag)
        if body is None:
            return
        manifest = parse_manifest(body)
    except (ContentError, InvalidName, Refused) as error:
        yield Unusable(where, in_short(error))
        return
    kind = _DSSE if tag.endswith(".att") else _COSIGN
    yield from _layers(at, manifest, where, kind)


def _layers(at: _Visit, manifest: Manifest, where: str, kind: str) -> Iterator[Candidate]:
    """Each layer; those that hardly count are put off into `last`."""
    hint = (manifest.annotations or {}).get(_PREDICATE)
    for number, layer in enumerate(manifest.layers, 1):
        place = where if len(manifest.layers) == 1 else f"{where}, layer {number}"
        look = partial(_layer, at.source, layer, place, kind, manifest)
        predicate = layer.annotations.get("predicateType", hint)
        if layer.size > SMALL or not at.search.asks_for(predicate):
            at.last.append(look)
        else:
            yield from look()


def _layer(
    source: SignatureSource, layer: Descriptor, where: str, kind: str, manifest: Manifest
) -> Iterator[Candidate]:
    try:
        content = _content(source, layer)
    except Refused as error:
        yield Unusable(where, str(error))
    else:
        yield _candidate(kind, layer, content, where, manifest)


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
