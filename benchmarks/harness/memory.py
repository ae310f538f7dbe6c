"""Memory that is at hand: the host of a virtual machine gives each page when it is first touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PIECE: Final = bytes(1024 * 1024)


def touch_memory(folder: Path, size: int) -> None:
    """Fill `size` bytes of a folder in memory, and give them back, for files that are written there next.

    Otherwise who writes two copies of a layer, as a mirror and its client do, pays the host twice: 2.5 s of
    system time a GiB instead of 0.6 s were seen in one pwrite loop, which says nothing about the mirror.
    """
    path = folder / "touched"
    with path.open("wb") as file:
        for _ in range(-(-size // len(_PIECE))):
            file.write(_PIECE)
    path.unlink()
