"""What refers to a manifest: signatures, attestations, SBOMs (distribution-spec, "Listing Referrers")."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.manifest import parse_entries
from tasks.upstream.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from tasks.upstream.errors import Where

log = logging.getLogger("mirrorflow.upstream")
# Answers of registries that do not have the API: 404 by the specification, the others by observation.
NO_API: Final = frozenset({400, 404, 405, 406})
_MAX_ALGORITHM, _MAX_ENCODED = 32, 64


def fallback_tag(digest: Digest) -> str:
    """Where clients keep the list where there is no API (distribution-spec, "Referrers Tag Schema")."""
    return f"{digest.algorithm[:_MAX_ALGORITHM]}-{digest.hex[:_MAX_ENCODED]}"


def parse_list(body: bytes, where: Where) -> tuple[Descriptor, ...]:
    """The descriptors of an index; one that cannot be read is logged and left out.

    Raises `UpstreamProtocolError` for what is no index.
    """
    try:
        found, problems = parse_entries(body)
    except ManifestInvalid as error:
        raise UpstreamProtocolError(where, f"its list of referrers is none: {error}") from error
    if problems:
        log.warning("%s: %d referrers are left out: %s", where, len(problems), problems[0])
    return found
