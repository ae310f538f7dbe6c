"""Shared by the push handlers: digests in queries, 201 responses, Warning headers, the free-space check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from registry_server.http.errors import Refused
from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store

_LONGEST_WARNING = 4096  # distribution-spec, "Warnings"


def query_digest(request: Request, name: str) -> Digest | None:
    """A digest in the query. Raises `InvalidName`."""
    text = request.query_params.get(name)
    return None if text is None else Digest(text)


def blob_created(repository: RepositoryName, digest: Digest) -> Response:
    """201, with the place that it can be pulled from, under the digest that the client gave it."""
    headers = {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": str(digest)}
    return Response(status_code=201, headers=headers)


def warning(text: str) -> dict[str, str]:
    """A header that clients show to people (distribution-spec, "Warnings"): `299 - "…"`."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').encode("ascii", "replace").decode()
    return {"Warning": f'299 - "{quoted[: _LONGEST_WARNING - 8]}"'}


# Refuse a push that would leave less free disk than the reserve: deleting needs some space too.


def check_free_space(store: Store, repository: RepositoryName, needed: int, *, spare: int) -> None:
    """For `needed` more bytes beside the `spare` ones. Raises `Refused` with 507."""
    free = store.uploads(repository).free_bytes()
    if free - needed < spare:
        raise Refused(
            507, "DENIED",
            f"not enough disk space for this upload: it needs {needed} bytes, and {max(free - spare, 0)} are "
            f"available ({free} free minus a reserve of {spare}); the operator has to free some space or to "
            "lower `limits.spareBytes`",
        )  # fmt: skip
