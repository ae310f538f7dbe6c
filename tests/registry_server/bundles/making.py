"""Bundles for the tests, unsigned: what a signature says is the business of tests/tasks/stored/bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry_server.bundles.create import BundleRequest, write_bundle
from registry_server.bundles.reading import Bundle

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.bundles.document import BundleDocument
    from registry_server.store.store import Store

CREATED = "2026-01-02T03:04:05.000006+00:00"
PROFILE = "0" * 64


def not_signed(_document: BundleDocument, _body: bytes) -> bytes:
    return b"not signed\n"


def create(store: Store, folder: Path, **options: Any) -> BundleDocument:
    return write_bundle(store, folder, BundleRequest(PROFILE, **options), CREATED, not_signed)


def checked(folder: Path) -> int:
    """Open a bundle and read all of it; how many bytes it has."""
    with Bundle.open(folder) as bundle:
        return bundle.check()
