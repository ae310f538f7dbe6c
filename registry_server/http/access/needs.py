"""What a request needs, from the parsed route and the method: never from a URL. Pure but for one look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.http import routes
from registry_server.http.access.policy import READ, Actions
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName, Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CREATE: Actions = frozenset({"create"})
_UPDATE: Actions = frozenset({"update"})
_DELETE: Actions = frozenset({"delete"})
_UPLOAD = _CREATE | _UPDATE  # who may only move tags must bring the new layers too


def needs(
    method: str, route: routes.Route, tags: Sequence[str], tag_exists: Callable[[Tag], bool]
) -> list[Actions]:
    """Of each set one action is needed. `tags` are those of the query (distribution-spec end-7b).

    zot's distinction: a tag that is there is updated, anything else is created.
    """
    match route:
        case routes.Upload():
            return [_UPLOAD]
        case routes.ManifestOf(reference=reference) if method == "PUT":
            named = [each for each in (reference, *map(_tag, tags)) if isinstance(each, Tag)]
            return [_UPDATE if tag_exists(tag) else _CREATE for tag in named] or [_UPLOAD]
        case routes.ManifestOf() | routes.BlobOf() if method == "DELETE":
            return [_DELETE]
        case routes.ManifestOf() | routes.BlobOf() | routes.Tags() | routes.Referrers():
            return [READ] if method in ("GET", "HEAD") else [_UPLOAD]
    return []


def repository_of(route: routes.Route) -> RepositoryName | None:
    """The repository that a route is about; None for the base and the catalog."""
    return getattr(route, "repository", None)


def _tag(text: str) -> Tag | None:
    try:
        return Tag(text)
    except InvalidName:
        return None  # the handler says so
