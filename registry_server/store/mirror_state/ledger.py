"""What this mirror has written to another registry, and that registry has confirmed.

A ledger is made like a store: its tags say which upstream digest became what, its pool holds the manifests.
Blobs are not in it. A file for each says that the registry has it in that repository. So a tag of a ledger
has its whole closure there (invariant 1), unless somebody else deletes something.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from registry_server.store.errors import translated
from registry_server.store.objects.objects import content_of
from registry_server.store.pool.blob_pool import file_name
from registry_server.store.repository import Repository
from registry_server.store.repository_reader import HIDDEN, VISIBLE
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.filesystem.durability import Durability

FOLDER: Final = "destinations"


class LedgerRepository(Repository):
    """One repository of another registry, by its name here. What `confirm` was told counts as held."""

    @translated
    def confirm(self, digest: Digest) -> None:
        """The registry has this blob in this repository."""
        self._objects.mark(self._confirmed_key(digest))

    @translated
    def is_confirmed(self, digest: Digest) -> bool:
        """A blob; or a manifest that was put there."""
        return self._is_there(self._confirmed_key(digest)) or self._manifest_record(digest) is not None

    @translated
    def forget(self, digests: Iterable[Digest]) -> None:
        """The registry does not have these any more, blobs or manifests, or may not."""
        for digest in digests:
            self._objects.remove(self._confirmed_key(digest), self._manifest_key(digest))

    def has_blob(self, digest: Digest) -> bool:
        return self.is_confirmed(digest)

    def _has_child(self, child: Descriptor) -> bool:
        return self.is_confirmed(child.digest)

    def _confirmed_key(self, digest: Digest) -> str:
        return f"{self._folder}/confirmed/{file_name(digest)}"


class Ledger(Store):
    """The ledger of one destination. Any number of processes and threads write at once, as into a store."""

    def repository(self, name: RepositoryName) -> LedgerRepository:
        return LedgerRepository(name, self._root_of(name), self._main, VISIBLE)

    def hidden(self, name: RepositoryName) -> LedgerRepository:
        return LedgerRepository(name, self._root_of(name), self._main, HIDDEN)

    @translated
    def note_place(self, digest: Digest, name: str) -> None:
        """A repository that has the blob, by its name there, so that another one can mount it from there."""
        self._main.objects.put(_place_key(digest), name.encode())

    @translated
    def place_of(self, digest: Digest) -> str:
        """The last repository that was noted for the blob; "" for none."""
        return (content_of(self._main.objects, _place_key(digest)) or b"").decode(errors="replace")


def _place_key(digest: Digest) -> str:
    return f"places/{digest.hex[:2]}/{file_name(digest)}"


def open_ledger(root: Path, name: str, durability: Durability = "batch", *, create: bool = True) -> Ledger:
    """That in the folder `name`, below the store in `root`. Raises what `Store.open` does.

    With `create` the folder is young afterwards: garbage collection discards ledgers that nobody opens.
    """
    found = Ledger.open(root / FOLDER / name, durability=durability, create=create)
    assert isinstance(found, Ledger), "`open` makes what it is called on"
    if create:
        with suppress(OSError):
            os.utime(root / FOLDER / name)
    return found
