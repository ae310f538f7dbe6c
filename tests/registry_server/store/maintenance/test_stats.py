"""How much there is, and what sharing saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.store.gc.collector import collect
from registry_server.store.gc.retention import GcOptions
from registry_server.store.maintenance.stats import RepositoryStats, stats
from tests.registry_server.store.gc.collecting import age
from tests.registry_server.store.images import image, layer, tag_image

if TYPE_CHECKING:
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

A, B = b"a" * 1000, b"b" * 500


def test_shared_bytes_count_once_for_the_store_and_in_full_for_each_repository(
    store: Store, nginx: Repository, other: Repository
) -> None:
    tag_image(nginx, "1", A)
    tag_image(nginx, "2", A)
    tag_image(other, "1", A, B)
    one, two = image(A).descriptor().size, image(A, B).descriptor().size
    found = stats(store)
    assert found.blobs == 5
    assert found.bytes == 1000 + 500 + 2 + one + two
    assert found.saved == 1000 + 2
    assert found.repositories == (
        RepositoryStats("library/nginx", tags=2, manifests=1, blobs=2, bytes=1002 + one, alone=one),
        RepositoryStats("library/other", tags=1, manifests=1, blobs=3, bytes=1502 + two, alone=500 + two),
    )


def test_what_is_on_its_way_in_or_out_is_told_apart(store: Store, nginx: Repository) -> None:
    nginx.put_blob(layer(B), B)
    age(store)
    collect(store, {store.root: GcOptions(settle=0.0)})
    with nginx.receive_blob(layer(A)) as incoming:
        incoming.write(A[:300])
    found = stats(store)
    # In a bucket it stays where it is until it is deleted.
    assert found.bytes == (0 if store.roots[0].is_local else 500)
    assert (found.incoming_bytes, found.trash_blobs, found.trash_bytes) == (300, 1, 500)
    assert found.to_json()["repositories"] == ()
