"""Which entries ask for verified signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.errors import NotYet

if TYPE_CHECKING:
    from profiles.sync import RegistryEntry


def refuse_policies(entry: RegistryEntry) -> None:
    """Raises `NotYet` for an entry that asks for signatures: passing it unverified would be a lie."""
    if entry.only_signed:
        raise NotYet(
            f"{entry.name}: `onlySigned: true` cannot be honoured yet: this version verifies no signatures, "
            "and admits nothing unverified in their place; set it to false to mirror without verification"
        )
