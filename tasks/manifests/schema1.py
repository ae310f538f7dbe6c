"""Why an image in Docker's schema 1 format is left out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.run.values import Image
    from tasks.upstream.errors import UpstreamSchema1

SCHEMA1 = (
    "is in Docker's schema 1 format, whose digest does not cover its bytes: it cannot be verified or kept"
)


def schema1_reason(image: Image, error: UpstreamSchema1) -> str:
    """Why an image is left out: it, or a manifest that its index lists, is in this format."""
    own = error.reference in (image.digest, image.reference)
    return SCHEMA1 if own else f"lists {error.reference}, which {SCHEMA1}"
