"""The profile that a run is told of: a file of its host or a checkout, or a block of the Prefect server."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_PREFIX: Final = "block:"
"""Before the name of a block, in the parameter `profile` of a flow. No path of a profile begins so."""


class ProfileUnavailable(MirrorflowError):
    """A run cannot get at the text of its profile."""


@contextmanager
def profile_file(named: str) -> Iterator[Path]:
    """The file of a profile, as long as the block runs: absolute, because pull steps change the folder.

    `named` is a path, or `block:NAME`: the text of that block is written to a folder of its own. Raises
    `ProfileUnavailable`.
    """
    if not named.startswith(BLOCK_PREFIX):
        yield Path(named).absolute()
        return
    name = named.removeprefix(BLOCK_PREFIX)
    text, suffix = _text_of_block(name)
    with TemporaryDirectory(prefix="mirrorflow-") as folder:
        path = Path(folder) / f"{name}{suffix}"
        path.write_text(text, encoding="utf-8")
        yield path


def _text_of_block(name: str) -> tuple[str, str]:
    from flows.orchestration.work_pools.profile_block import load_block

    try:
        return load_block(name)
    except ValueError as error:
        raise ProfileUnavailable(
            f"the Prefect server has no usable block mirrorflow-profile/{name}; `mirrorflow deploy "
            f"--profile-block {name}` makes it ({type(error).__name__})"
        ) from error
