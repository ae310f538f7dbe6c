"""The watermark: bytes of the disk that no push may take, because deleting needs room too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.http.errors import Refused

if TYPE_CHECKING:
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store


def check_room(store: Store, repository: RepositoryName, needed: int, *, spare: int) -> None:
    """For `needed` more bytes beside the `spare` ones. Raises `Refused` with 507."""
    free = store.uploads(repository).free_bytes()
    if free - needed < spare:
        raise Refused(
            507, "DENIED",
            f"there is no room: {needed} bytes were announced and {free} are free, of which "
            f"{spare} are kept back; the registry's operator has to make room",
        )  # fmt: skip
