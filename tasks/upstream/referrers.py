"""What refers to a manifest: signatures, attestations, SBOMs (distribution-spec, "Listing Referrers")."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.manifest import parse_entries
from tasks.upstream import bodies
from tasks.upstream.errors import UpstreamProtocolError
from tasks.upstream.exchange import Call
from tasks.upstream.paging import MAX_PAGES, next_link

if TYPE_CHECKING:
    import httpx

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from tasks.upstream.errors import Where
    from tasks.upstream.exchange import Endpoint, Exchanger

log = logging.getLogger("mirrorflow.upstream")
# Answers of registries that do not have the API: 404 by the specification, the others by observation.
NO_API: Final = frozenset({400, 404, 405, 406})
_MAX_ALGORITHM, _MAX_ENCODED = 32, 64


def fallback_tag(digest: Digest) -> str:
    """Where clients keep the list where there is no API (distribution-spec, "Referrers Tag Schema")."""
    return f"{digest.algorithm[:_MAX_ALGORITHM]}-{digest.hex[:_MAX_ENCODED]}"


def list_referrers(
    exchanger: Exchanger, endpoint: Endpoint, repository: str, digest: Digest
) -> list[Descriptor]:
    """All pages, each descriptor once. Raises `UpstreamError`; its status is in `NO_API` without the API."""
    found: dict[Digest, Descriptor] = {}
    call = Call("GET referrers", f"referrers/{digest}", repository)
    for _ in range(MAX_PAGES):
        page, link = _page(exchanger, endpoint, call)
        before = len(found)
        found.update((each.digest, each) for each in page)
        if link is None or len(found) == before:
            return list(found.values())
        call = Call(call.kind, "", repository, page=link)
    raise UpstreamProtocolError(endpoint.where(call), f"more than {MAX_PAGES} pages of referrers")


def _page(
    exchanger: Exchanger, endpoint: Endpoint, call: Call
) -> tuple[tuple[Descriptor, ...], httpx.URL | None]:
    with exchanger.open(endpoint, call) as answer:
        body = bodies.read_whole(answer, bodies.MAX_LIST, "the list of referrers")
        link = next_link(answer.headers, endpoint.request(call).url, answer.where)
        return parse_list(body, answer.where), link


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
