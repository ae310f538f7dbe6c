"""One manifest in another form, decided without I/O: Docker's media types become OCI's, indexes smaller.

Only what must change does: media types, and in an index the digests and sizes of children that have changed
themselves. Configs and layers keep their bytes, so the image ID stays. The same manifest always gives the
same bytes; whoever changes that raises `forms.VERSION`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci import media_types
from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.strict_json import load_object

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.forms import Form
    from registry_server.oci.manifest import Manifest

# BuildKit's attestation manifests name the image that they accompany in this annotation of their index entry.
REFERENCE: Final = "vnd.docker.reference.digest"

_DOCKER: Final = "application/vnd.docker.image.rootfs"
_OCI: Final = "application/vnd.oci.image.layer"
# What is not here (plugins, artifacts of all kinds) has no counterpart and stays what it is.
_BLOBS: Final = {
    media_types.DOCKER_CONFIG: media_types.OCI_CONFIG,
    f"{_DOCKER}.diff.tar": f"{_OCI}.v1.tar",
    f"{_DOCKER}.diff.tar.gzip": f"{_OCI}.v1.tar+gzip",
    f"{_DOCKER}.diff.tar.zstd": f"{_OCI}.v1.tar+zstd",
    f"{_DOCKER}.foreign.diff.tar": f"{_OCI}.nondistributable.v1.tar",
    f"{_DOCKER}.foreign.diff.tar.gzip": f"{_OCI}.nondistributable.v1.tar+gzip",
}
_MANIFESTS: Final = {
    media_types.DOCKER_MANIFEST: media_types.OCI_MANIFEST,
    media_types.DOCKER_LIST: media_types.OCI_INDEX,
}
# In the type of a referrer, its config or its layers: signed, or a statement about the digest that it names.
_SIGNED: Final = (
    *(
        "signature",
        "simplesigning",
        "sigstore",
        "cosign",
        "notary",
        "notation",
        "jose",
        "cose",
        "pgp",
        "pkcs",
    ),
    *("dsse", "in-toto", "attest", "provenance", "verdict"),
)


def changed(
    manifest: Manifest,
    *,
    oci: bool,
    renamed: Mapping[Digest, Descriptor],
    left_out: Collection[Digest] = (),
) -> Manifest:
    """The manifest in its other form; itself when nothing of it changes.

    `renamed`: what took the place of children (and of the subject) that changed; `left_out`: entries of an
    index that are not to be in it any more. Raises `ManifestInvalid`.
    """
    document = load_object(manifest.body)
    before = json.dumps(document)
    if manifest.is_index and manifest.manifests:
        _change_entries(document, renamed, left_out)
    if oci and manifest.media_type == media_types.DOCKER_MANIFEST:
        _change_blobs(document)
    if manifest.subject is not None and manifest.subject.digest in renamed and may_be_readdressed(manifest):
        document["subject"] = _renamed(document["subject"], renamed[manifest.subject.digest])
    media_type = _MANIFESTS.get(manifest.media_type, manifest.media_type) if oci else manifest.media_type
    if media_type == manifest.media_type and json.dumps(document) == before:
        return manifest
    return _written(document | {"mediaType": media_type})


def may_change(manifest: Manifest, form: Form) -> bool:
    """Whether `form` could make another one of this manifest: of an index, as far as its entries tell."""
    if not form or not manifest.is_index:
        return form.oci and manifest.media_type in _MANIFESTS
    others = (child for child in manifest.manifests if child.media_type != media_types.OCI_MANIFEST)
    return form.rewrite or (form.oci and (manifest.media_type in _MANIFESTS or any(others)))


def readdressed(manifest: Manifest, subject: Descriptor) -> Manifest:
    """A copy of a referrer that names `subject`; see `may_be_readdressed`. Raises `ManifestInvalid`."""
    return _written(load_object(manifest.body) | {"subject": _named(subject)})


def may_be_readdressed(manifest: Manifest) -> bool:
    """Whether what a referrer says of an image is as true of its other form, whose layers are the same.

    Signatures and signed statements name the digest of what was signed: a copy of them would be a lie.
    """
    types = [manifest.artifact_type or "", *(blob.media_type for blob in manifest.layers)]
    types += [manifest.config.media_type] if manifest.config else []
    return not any(sign in each.lower() for each in types for sign in _SIGNED)


def _change_entries(
    document: dict[str, Any], renamed: Mapping[Digest, Descriptor], left_out: Collection[Digest]
) -> None:
    document["manifests"] = [
        _entry(entry, renamed) for entry in document["manifests"] if entry["digest"] not in left_out
    ]


def _entry(entry: dict[str, Any], renamed: Mapping[Digest, Descriptor]) -> dict[str, Any]:
    """An entry of an index, and in it the new name of its child and of the image that the child is about."""
    new = renamed.get(entry["digest"])
    if new is not None:
        entry = _renamed(entry, new)
        if entry.get("platform"):  # image-spec image-index.md: `features` is reserved
            entry["platform"] = {key: value for key, value in entry["platform"].items() if key != "features"}
    notes = entry.get("annotations") or {}
    about = renamed.get(notes.get(REFERENCE, ""))
    return entry if about is None else entry | {"annotations": notes | {REFERENCE: str(about.digest)}}


def _change_blobs(document: dict[str, Any]) -> None:
    for blob in (document["config"], *(document.get("layers") or ())):
        if blob.get("mediaType") in _BLOBS:
            blob["mediaType"] = _BLOBS[blob["mediaType"]]


def _renamed(descriptor: Mapping[str, Any], new: Descriptor) -> dict[str, Any]:
    """`data` was the body of what has another one now."""
    return {key: value for key, value in descriptor.items() if key != "data"} | _named(new)


def _named(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def _written(document: Mapping[str, Any]) -> Manifest:
    """As strict as what is read: nothing leaves here that would be refused elsewhere."""
    try:
        # An empty list for the `null` of old Go tools, which is not OCI.
        lists: dict[str, list[Any]] = {
            key: [] for key in ("layers", "manifests") if document.get(key, "") is None
        }
        text = json.dumps({**document, **lists}, separators=(",", ":"), allow_nan=False)
    except ValueError as error:  # 1e999 is JSON, and no number that could be written again
        raise ManifestInvalid(f"the manifest cannot be written again as JSON: {error}") from error
    return parse_manifest(text.encode("ascii"))
