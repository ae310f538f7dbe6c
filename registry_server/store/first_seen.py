"""Since when a tag of an upstream names a digest that is not in the store: what a cool-down counts from.

One small file for each tag, or digest, that waits. It holds the digest that was seen last: when another one
is seen, its time begins anew. So a digest that shows up for a moment does not age while it is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.store import disk as files
from registry_server.store import records
from registry_server.store.errors import translated
from registry_server.store.pool import file_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.store import Store


@translated
def waiting(store: Store, name: RepositoryName, reference: Tag | Digest) -> tuple[Digest, float] | None:
    """The digest that the reference was last seen to name, and since when, in unix seconds; None for none."""
    return records.decoded(files.read(_path(store, name, reference)), _read)


def first_seen(store: Store, name: RepositoryName, reference: Tag | Digest, digest: Digest) -> float | None:
    """Unix seconds; None when the reference was not seen to name this digest, or another one since."""
    found = waiting(store, name, reference)
    return found[1] if found is not None and found[0] == digest else None


@translated
def note_first_seen(
    store: Store, name: RepositoryName, reference: Tag | Digest, digest: Digest, now: float
) -> float:
    """Remember the digest, unless it is remembered already; since when it is, in unix seconds.

    Two that note different digests at once leave the one or the other: a time is lost, none is gained.
    """
    known = first_seen(store, name, reference, digest)
    if known is not None:
        return known
    content = records.encode({"digest": digest, "since": now})
    store.root_of(name).disk.write(_path(store, name, reference), content)
    return now


@translated
def forget_first_seen(store: Store, name: RepositoryName, reference: Tag | Digest) -> None:
    """It names what the store has: whatever was seen between begins anew."""
    files.remove(_path(store, name, reference))


def _path(store: Store, name: RepositoryName, reference: Tag | Digest) -> str:
    file = file_name(reference) if isinstance(reference, Digest) else str(reference)
    return f"{store.repository(name).folder}/seen/{file}"


def _read(body: Mapping[str, Any]) -> tuple[Digest, float]:
    return Digest(body["digest"]), float(body["since"])
