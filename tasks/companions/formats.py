"""What may follow an image under a policy that keeps unsigned images out: an allow-list of exact media types.

The verdict on an image says nothing about what refers to it, and a user with push rights can attach
anything. So a companion is admitted only when it is of a known format, and when no container runtime could
run it:

- containerd unpacks a layer whose media type is, or extends, a tar layer (`...tar+dsse+gzip` is one to it);
  no such type is on the list.
- podman and CRI-O unpack a layer by its content, whatever its type, as soon as the config has the media type
  of an image config. cosign's older formats use that type, with `rootfs.diff_ids`. So the content is read as
  well: a layer has to be the document that its type promises, and a config may not say what to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.media_types import (
    DOCKER_CONFIG,
    IMAGES,
    OCI_ARTIFACT_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
)
from registry_server.oci.strict_json import load_object
from tasks.manifests.verdict_record import ARTIFACT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.manifest import Manifest

_IMAGE_CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_COSIGN_ARTIFACT: Final = "application/vnd.dev.cosign.artifact.{}.v1+json"
_BUNDLES: Final = frozenset(
    {
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.dev.sigstore.bundle+json;version=0.3",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
    }
)
_NOTATION: Final = "application/vnd.cncf.notary.signature"
_COSE: Final = "application/cose"
_COSE_SIGN1: Final = b"\xd2"  # RFC 9052 section 2: CBOR tag 18, the first byte of a COSE_Sign1 object
_JSON: Final = frozenset({"application/json"})
_STATEMENTS: Final = frozenset({"application/vnd.in-toto+json", "application/vnd.dsse.envelope.v1+json"})
_REPORTS: Final = frozenset(
    {
        "application/spdx+json",  # IANA, https://www.iana.org/assignments/media-types/application/spdx+json
        "text/spdx",  # IANA; cosign's name for SPDX tag-value
        "text/spdx+json",  # cosign, pkg/types/media.go
        "text/spdx+xml",  # cosign, pkg/types/media.go
        "application/vnd.cyclonedx",  # cosign, pkg/types/media.go
        "application/vnd.cyclonedx+json",  # IANA, CycloneDX specification
        "application/vnd.cyclonedx+xml",  # IANA, CycloneDX specification
        "application/vnd.syft+json",  # cosign, pkg/types/media.go; anchore/syft
        "application/sarif+json",  # IANA, OASIS SARIF 2.1.0 appendix G
        "application/vnd.openvex+json",  # openvex/spec, ATTESTING.md
    }
)


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which a tool attaches something to an image. `""` in `artifacts`: no artifactType.

    `configs` and `layers` are media types, compared exactly.
    """

    name: str
    artifacts: frozenset[str]
    configs: frozenset[str]
    layers: frozenset[str]


def _cosign(kind: str, name: str, layers: frozenset[str]) -> Format:
    """sigstore/cosign pkg/oci/remote: with the type of an image config under a tag, with its own type in the
    mode `--registry-referrers-mode=oci-1-1`."""
    artifact = _COSIGN_ARTIFACT.format(kind)
    return Format(name, frozenset({"", artifact}), _IMAGE_CONFIGS | {OCI_EMPTY, artifact}, layers)


FORMATS: Final = (
    # sigstore/cosign specs/SIGNATURE_SPEC.md
    _cosign("sig", "cosign signature", frozenset({"application/vnd.dev.cosign.simplesigning.v1+json"})),
    # sigstore/cosign specs/ATTESTATION_SPEC.md
    _cosign("att", "cosign attestation", _STATEMENTS),
    # sigstore/cosign specs/SBOM_SPEC.md
    _cosign("sbom", "cosign SBOM", _REPORTS),
    # sigstore/cosign specs/BUNDLE_SPEC.md; sigstore/protobuf-specs sigstore_bundle.proto, media_type
    Format("Sigstore bundle", _BUNDLES, _BUNDLES | {OCI_EMPTY}, _BUNDLES),
    # notaryproject/specifications specs/signature-specification.md, "OCI Signatures"
    Format(
        "Notary Project signature",
        frozenset({"", _NOTATION}),
        frozenset({_NOTATION, OCI_EMPTY}),
        frozenset({"application/jose+json", _COSE}),
    ),
    # image-spec manifest.md, "Guidelines for Artifact Usage": what ORAS and BuildKit attach
    Format(
        "report or statement",
        _REPORTS | _STATEMENTS,
        _REPORTS | _STATEMENTS | {OCI_EMPTY},
        _REPORTS | _STATEMENTS | _JSON,
    ),
)
"""Whatever is not on this list does not follow an image where a policy keeps unsigned images out."""
STORED_FORMATS: Final = (
    *FORMATS,
    Format("verdict", frozenset({ARTIFACT_TYPE}), frozenset({OCI_EMPTY}), frozenset({ARTIFACT_TYPE})),
)
"""In the store there are also verdicts of this mirror, which come from no upstream."""

NOT_ALLOWED: Final = "is of no format that may follow an image here"
LARGEST: Final = 32 * 2**20  # bytes of one config or layer that has to be read
_EMPTY: Final = Digest.of(b"{}")


def why_not_allowed(
    manifest: Manifest, read: Callable[[Descriptor], bytes], formats: Iterable[Format] = FORMATS
) -> str:
    """Why it may not follow an image under a strict policy; "" when it may.

    `read` gives the verified content of a config or layer of at most `LARGEST` bytes; what it raises passes.
    """
    return _format_problem(manifest, formats) or _content_problem(manifest, read)


def _format_problem(manifest: Manifest, formats: Iterable[Format]) -> str:
    if manifest.media_type not in IMAGES | {OCI_ARTIFACT_MANIFEST}:
        return f"{NOT_ALLOWED}: it is an index"
    if _names_layers_elsewhere(manifest):
        return f"{NOT_ALLOWED}: it names layers that are on other servers"
    if any(_is_of(each, manifest) for each in formats):
        return ""
    config = manifest.config.media_type if manifest.config else "none"
    layers = ", ".join(dict.fromkeys(layer.media_type for layer in manifest.layers)) or "none"
    artifact = manifest.artifact_type or "none"
    return f"{NOT_ALLOWED}: artifact type {artifact[:80]}, config {config[:80]}, layers {layers[:160]}"


def _names_layers_elsewhere(manifest: Manifest) -> bool:
    """`parse_manifest` leaves out what only its `urls` have; containerd fetches such layers from there."""
    document = load_object(manifest.body)
    listed = [*(document.get("layers") or ()), *(document.get("blobs") or ())]
    return len(listed) != len(manifest.layers) or any(layer.urls for layer in manifest.layers)


def _is_of(format_: Format, manifest: Manifest) -> bool:
    config = {each.media_type for each in _config_of(manifest)}
    layers = {layer.media_type for layer in manifest.layers}
    artifact = manifest.artifact_type or ""
    return artifact in format_.artifacts and config <= format_.configs and layers <= format_.layers


def _config_of(manifest: Manifest) -> tuple[Descriptor, ...]:
    return (manifest.config,) if manifest.config else ()


def _content_problem(manifest: Manifest, read: Callable[[Descriptor], bytes]) -> str:
    configs = (_too_large(each) or _config_problem(each, read) for each in _config_of(manifest))
    layers = (_too_large(each) or _layer_problem(each, read(each)) for each in manifest.layers)
    return next(filter(None, chain(configs, layers)), "")


def _too_large(descriptor: Descriptor) -> str:
    if descriptor.size <= LARGEST:
        return ""
    return (
        f"{NOT_ALLOWED}: its {descriptor.media_type[:80]} has {descriptor.size:,} bytes; at most {LARGEST:,} "
        "are looked at"
    )


def _config_problem(config: Descriptor, read: Callable[[Descriptor], bytes]) -> str:
    if config.digest == _EMPTY:
        return ""
    try:
        document = load_object(read(config))
    except ManifestInvalid:
        return f"{NOT_ALLOWED}: its config is not a JSON object"
    # image-spec config.md: `config` has Entrypoint, Cmd, Env; cosign leaves it empty.
    return f"{NOT_ALLOWED}: its config says what to run" if document.get("config") else ""


def _layer_problem(layer: Descriptor, content: bytes) -> str:
    """An archive has NUL bytes, or is compressed and no UTF-8: neither is a document of these types."""
    what = f"{NOT_ALLOWED}: its layer of type {layer.media_type[:80]} is"
    if layer.media_type == _COSE:
        return "" if content[:1] == _COSE_SIGN1 else f"{what} no COSE_Sign1 object"
    try:
        text = content.decode("utf-8-sig").lstrip()
    except UnicodeDecodeError:
        return f"{what} not text"
    if "\0" in text:
        return f"{what} not text"
    if layer.media_type == "text/spdx":
        # SPDX 2.3 chapter 6: the first field of a tag-value document.
        return "" if "SPDXVersion:" in text else f"{what} no SPDX document"
    return "" if text[:1] in ("{", "[", "<") else f"{what} neither JSON nor XML"
