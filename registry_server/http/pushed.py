"""What answers and requests of pushing have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry_server.oci.reference import RepositoryName

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
