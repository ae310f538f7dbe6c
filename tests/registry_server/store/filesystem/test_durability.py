"""What is on the disk when: content before its name, everything before a tag."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreFull
from registry_server.store.filesystem.durability import Durability, Flusher, SharedSync
from registry_server.store.store import Store
from tests.registry_server.store.images import files_below, layer, put_image, record

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.repository import Repository

LAYER = b"layer"


class Watch(Flusher):
    """A flusher that notes what was visible whenever it was asked to sync; or that fails like a disk."""

    def __init__(self, store: Store, durability: Durability) -> None:
        super().__init__(str(store.root), durability)
        self.root = store.root
        self.at_content: list[int] = []
        self.at_phase: list[set[str]] = []
        self.error: OSError | None = None

    def content(self, fd: int) -> None:
        self.at_content.append(len(list((self.root / "blobs").glob("*/*/*"))))
        if self.error:
            raise self.error
        super().content(fd)

    def phase(self) -> None:
        self.at_phase.append({os.path.relpath(path, self.root) for path in files_below(self.root)})
        super().phase()


def watched(tmp_path: Path, durability: Durability) -> tuple[Repository, Watch]:
    store = Store.open(tmp_path / "store", durability=durability)
    watch = Watch(store, durability)
    store._main.spool.flusher = watch
    return store.repository(RepositoryName("a")), watch


def receive(repository: Repository, content: bytes) -> None:
    with repository.receive_blob(layer(content)) as incoming:
        incoming.write(content)
        incoming.commit()


def test_content_is_synced_before_it_gets_its_name(tmp_path: Path, durability: Durability) -> None:
    repository, watch = watched(tmp_path, durability)
    receive(repository, b"1")
    repository.put_blob(layer(b"2"), b"2")
    put_image(repository)
    assert watch.at_content == [0, 1, 2, 3]


def test_the_sync_phase_comes_after_the_content_and_before_the_tag(tmp_path: Path) -> None:
    repository, watch = watched(tmp_path, "batch")
    descriptor = put_image(repository, LAYER)
    repository.put_tag(Tag("1"), record(descriptor))
    (seen,) = watch.at_phase
    assert f"blobs/sha256/{descriptor.digest.hex[:2]}/{descriptor.digest.hex}" in seen
    assert f"repos/a/_r/manifests/sha256-{descriptor.digest.hex}" in seen
    assert f"repos/a/_r/blobs/sha256-{layer(LAYER).digest.hex}" in seen
    assert "repos/a/_r/tags/1" not in seen
    assert any(path.startswith("staging/") for path in seen)  # the tag itself is synced along


def test_bytes_whose_sync_failed_are_not_trusted(tmp_path: Path) -> None:
    """They would read back well from memory, and nobody would sync them again."""
    repository, watch = watched(tmp_path, "batch")
    watch.error = OSError(28, "No space left on device")
    before = files_below(watch.root)
    with pytest.raises(StoreFull):
        receive(repository, LAYER)
    with pytest.raises(StoreFull):
        repository.put_blob(layer(LAYER), LAYER)
    assert files_below(watch.root) == before
    watch.error = None
    receive(repository, LAYER)
    assert repository.has_blob(layer(LAYER).digest)


def test_threads_that_sync_at_once_all_come_back(tmp_path: Path) -> None:
    sync = SharedSync(str(tmp_path))

    def call() -> None:
        for _ in range(50):
            sync()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 50 <= sync._finished <= 400


def test_a_sync_that_failed_is_told_to_everybody_and_the_next_one_counts(tmp_path: Path) -> None:
    root = tmp_path / "root"
    sync = SharedSync(str(root))
    failed = []

    def call() -> None:
        try:
            sync()
        except FileNotFoundError:
            failed.append(1)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 8
    root.mkdir()
    sync()
