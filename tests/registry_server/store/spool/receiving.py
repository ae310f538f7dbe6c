"""What the tests of incoming blobs have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.registry_server.store.images import layer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

CONTENT = bytes(range(256)) * 20
BLOB = layer(CONTENT)


def incoming_file(store: Store, descriptor: Descriptor = BLOB) -> Path:
    return store.root / "incoming" / descriptor.digest.replace(":", "-")


def tell(asked: threading.Event) -> Callable[[], bool]:
    """A `cancelled` that says when it is asked, i.e. when somebody waits."""

    def cancelled() -> bool:
        asked.set()
        return False

    return cancelled


def receive(repository: Repository, content: bytes = CONTENT, descriptor: Descriptor = BLOB) -> int:
    """Fill the blob from where it stands; the offset at which that was."""
    with repository.receive_blob(descriptor) as incoming:
        start = incoming.offset
        if not incoming.complete:
            incoming.write(content[start:])
            incoming.commit()
    return start
