"""The block of Prefect that keeps the text of a profile. It imports Prefect: import it in functions only."""

from __future__ import annotations

from typing import Any

from prefect.blocks.core import Block
from pydantic import Field


class ProfileBlock(Block):
    """A mirrorflow profile. A change is taken by the next run; `mirrorflow deploy` overwrites it."""

    _block_type_name = "Mirrorflow profile"
    _block_type_slug = "mirrorflow-profile"
    _description = "What a mirror of OCI registries takes, and where it keeps it."

    text: str = Field(title="Profile", description="The profile, as in its file.")
    suffix: str = Field(
        default=".yaml", pattern=r"(\.[a-z]{1,8})?", title="Format", description="Suffix of its file."
    )


def save_block(name: str, text: str, *, suffix: str) -> None:
    """Make or overwrite it. Raises what Prefect's client raises."""
    known = suffix.lower() if suffix.lower() in (".yaml", ".yml", ".json", ".toml") else ""
    block: Any = ProfileBlock(text=text, suffix=known)
    block.save(name, overwrite=True, _sync=True)  # Any: its types do not know of `_sync`


def load_block(name: str) -> tuple[str, str]:
    """Text and suffix. Raises ValueError where the server has none of this name."""
    block: Any = ProfileBlock
    found = block.load(name, _sync=True)
    return found.text, found.suffix
