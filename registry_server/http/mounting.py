"""Blobs of other repositories (distribution-spec, "Mounting a blob from another repository")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.http.room import check_room
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.errors import NotFound
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry_server.oci.digest import Digest
    from registry_server.store.records import StoredBlob
    from registry_server.store.store import Store

_PIECE_BYTES = 1024 * 1024


def mount(store: Store, target: RepositoryName, digest: Digest, request: Request, *, spare: int) -> bool:
    """Whether `target` has the blob now. `store` shows the caller's repositories only.

    With `from` it is looked for there only, without it everywhere. Between storage roots it is copied, if
    that leaves `spare` bytes of the disk. Raises `Refused`, `InvalidName` for a `from` that is no repository.
    """
    repository = store.repository(target)
    if repository.has_blob(digest):
        return True
    given = request.query_params.get("from")
    source = store.holder(digest) if given is None else RepositoryName(given)
    if source is None:
        return False
    try:
        found = store.repository(source).find_blob(digest)
    except NotFound:
        return False
    if repository.adopt_blob(digest):
        return True
    check_room(store, target, found.size, spare=spare)
    return _copy(store, target, found)


def _copy(store: Store, target: RepositoryName, found: StoredBlob) -> bool:
    """Into another root, hashed on the way like anything that comes in."""
    descriptor = Descriptor("application/octet-stream", found.digest, found.size)
    with (
        store.repository(target).receive_blob(descriptor) as incoming,
        found.path.open("rb") as source,
    ):
        source.seek(incoming.offset)
        while not incoming.complete and (piece := source.read(_PIECE_BYTES)):
            incoming.write(piece)
        incoming.commit()
    return True
