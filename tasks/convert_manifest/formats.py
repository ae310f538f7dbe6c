"""In which form an image is to be here: pure, from the rules that take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.matching import manifest_format_of
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.digest import Digest
from registry_server.oci.forms import KEPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.image_parts import ImageParts
    from profiles.model.content_rule import ContentRule
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.forms import Form
    from registry_server.oci.reference import Tag


def wanted_form(
    entry: RegistryEntry,
    rules: Sequence[ContentRule | None],
    reference: Tag | Digest,
    parts: ImageParts,
) -> Form:
    """A digest names what it is the digest of, and a signature's tag what was signed: both are kept."""
    if isinstance(reference, Digest) or is_companion_tag(reference):
        return KEPT
    return manifest_format_of(entry, rules, parts)
