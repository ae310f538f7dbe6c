"""The size of a pool is looked up by walking, which is to stay a small part of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.http.metrics.prometheus import PoolSize

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Every look at it takes `step` seconds."""

    def __init__(self) -> None:
        self.now, self.step = 1000.0, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def _put(root: Path, name: str, size: int) -> None:
    path = root / "blobs/sha256" / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_a_size_is_good_for_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    pool = PoolSize(tmp_path, clock)
    _put(tmp_path, "aa1", 10)
    assert pool.bytes() == 10
    _put(tmp_path, "bb2", 5)
    clock.now += 59
    assert pool.bytes() == 10
    clock.now += 1
    assert pool.bytes() == 15


def test_a_walk_that_takes_long_is_rare(tmp_path: Path) -> None:
    clock = Clock()
    clock.step = 3.0
    pool = PoolSize(tmp_path, clock)
    _put(tmp_path, "aa1", 10)
    assert pool.bytes() == 10
    _put(tmp_path, "bb2", 5)
    clock.now += 280
    assert pool.bytes() == 10
    clock.now += 20
    assert pool.bytes() == 15


def test_a_pool_that_cannot_be_read_has_no_size(tmp_path: Path) -> None:
    assert PoolSize(tmp_path).bytes() is None


def test_links_in_the_pool_are_not_followed(tmp_path: Path) -> None:
    _put(tmp_path / "elsewhere", "aa1", 1000)
    _put(tmp_path, "aa1", 10)
    (tmp_path / "blobs/sha256/bb").symlink_to(tmp_path / "elsewhere/blobs/sha256/aa")
    assert (PoolSize(tmp_path).bytes() or 0) < 1000
