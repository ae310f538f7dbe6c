"""What a Notary Project signature is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.trust.errors import Refused
from tasks.trust.formats.texts import expect, json_object

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from tasks.trust.candidates import SigningTarget


def check_target(payload: bytes, image: SigningTarget, subject: Descriptor | None) -> None:
    """Digest, size and media type have to be the image's. Raises `Refused`."""
    target = expect(json_object(payload, "the payload").get("targetArtifact"), dict, "targetArtifact")
    if target.get("digest") != image.digest:
        raise Refused("the signature is of another image")
    size = expect(target.get("size"), int, "the target's size")
    if size != (image.size if image.size is not None else size) or (subject and size != subject.size):
        raise Refused("the signature is of an image of another size")
    if target.get("mediaType") != image.media_type:
        raise Refused("the signature is of an image of another media type")
