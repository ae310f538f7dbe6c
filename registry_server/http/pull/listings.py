"""Lists: tags, repositories, referrers. They read folders, so they run in threads."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.responses import Response

from registry_server.http.pull.paging import Page
from registry_server.http.pull_through.namespaces import ASKED, FOUND, NAMESPACE
from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.errors import MirrorflowError, RepositoryUnknown
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from registry_server.http.routes import Catalog, Referrers, Tags
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

# containerd reads no more than 4 MiB of a referrers list; the rest goes to the next page.
_LONGEST_REFERRERS = 3 * 1024 * 1024


async def tags(store: Store, route: Tags, request: Request) -> Response:
    """`{"name", "tags"}` in ASCII order, exclusive of `last`."""
    page = Page.parse(request.query_params)
    repository = store.repository(route.repository)
    found = await asyncio.to_thread(repository.tag_names, last=page.last, limit=page.wanted)
    return tags_page(route, request, found)


def tags_page(route: Tags, request: Request, found: Sequence[str]) -> Response:
    """The page of the request; `found` are its tags and, if there is one, the first of the next page."""
    page, name = Page.parse(request.query_params), _asked_name(route, request)
    link = page.link(f"/v2/{name}/tags/list", found, _of_registry(request))
    return _json({"name": name, "tags": page.cut(found)}, link)


async def catalog(store: Store, _route: Catalog, request: Request) -> Response:
    """`{"repositories"}`: not in the specification any more, but mirrors and people ask for it."""
    page = Page.parse(request.query_params)
    found = page.after(await asyncio.to_thread(store.repositories))
    return _json({"repositories": page.cut(found)}, page.link("/v2/_catalog", found))


async def referrers(store: Store, route: Referrers, request: Request) -> Response:
    """An index of what refers to a digest; empty rather than 404 where there is nothing.

    (distribution-spec, "Listing Referrers"; `OCI-Filters-Applied` says that `artifactType` was heard.)
    """
    repository = store.repository(route.repository)
    found = await asyncio.to_thread(_all_referrers, repository, route.digest)
    # Typed into a URL as it is, the + of "+json" arrives as a blank; no media type has one.
    wanted = request.query_params.get("artifactType", "").replace(" ", "+")
    entries = [
        each.to_json()
        for each in sorted(found, key=lambda each: each.digest)
        if not wanted or each.artifact_type == wanted
    ]
    filters = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
    shown, link = _referrers_page(
        entries, request, f"/v2/{_asked_name(route, request)}/referrers/{route.digest}"
    )
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": shown}
    return _json(body, filters | link, media_type=OCI_INDEX)


def _asked_name(route: Tags | Referrers, request: Request) -> RepositoryName:
    """As the client calls it: with `?ns=`, or at a host of another registry, it has that one's name."""
    name: RepositoryName = request.scope.get(ASKED, route.repository)
    return name


def _of_registry(request: Request) -> dict[str, str]:
    return {NAMESPACE: request.scope[FOUND]} if FOUND in request.scope else {}


def _all_referrers(repository: Repository, subject: Digest) -> list[Descriptor]:
    """Each digest once: what is on record here wins over what an index of a client says."""
    try:
        recorded = repository.referrers(subject)
    except RepositoryUnknown:
        recorded = []
    by_digest = {each.digest: each for each in [*fallback_referrers(repository, subject), *recorded]}
    return list(by_digest.values())


def _referrers_page(
    entries: list[dict[str, Any]], request: Request, path: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What fits into one answer after `last` (a digest), and the Link to the rest."""
    last = request.query_params.get("last", "")
    shown: list[dict[str, Any]] = []
    length = 0
    for entry in entries:
        if entry["digest"] <= last:
            continue
        length += len(json.dumps(entry))
        if shown and length > _LONGEST_REFERRERS:
            query = dict(request.query_params) | {"last": shown[-1]["digest"]}
            return shown, {"Link": f'<{path}?{urlencode(query)}>; rel="next"'}
        shown.append(entry)
    return shown, {}


def _json(body: dict[str, Any], headers: dict[str, str], *, media_type: str = "application/json") -> Response:
    return Response(json.dumps(body).encode(), headers={"Content-Type": media_type, **headers})


# Referrers as clients keep them where a registry has no list (distribution-spec, "Referrers Tag Schema").
# Images that came from such a registry, with that tag, are found by it; what is pushed here needs none.


def fallback_referrers(repository: Repository, subject: Digest) -> list[Descriptor]:
    """What the index behind the fallback tag names, is here, and does refer to `subject`."""
    index = _manifest(repository, fallback_tag(subject))
    if index is None or not index.is_index:
        return []
    found = ((each.digest, _manifest(repository, each.digest)) for each in index.manifests)
    return [
        referrer.descriptor(digest.algorithm)
        for digest, referrer in found
        if referrer is not None and referrer.subject is not None and referrer.subject.digest == subject
    ]


def _manifest(repository: Repository, reference: Tag | Digest) -> Manifest | None:
    try:
        descriptor, body = repository.read_manifest(reference)
        return parse_manifest(body, descriptor.media_type)
    except MirrorflowError:
        return None
