"""A store as one caller may see it.

What a caller may not read is looked for where nothing is, so every endpoint answers exactly as it does for
what is absent: with the same words, without being told about access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.repository import Repository


class VisibleStore(Store):
    """`store` without the repositories of which `may_see` is false."""

    def __init__(self, store: Store, may_see: Callable[[RepositoryName], bool]) -> None:
        vars(self).update(vars(store))
        self._may_see = may_see

    def shows(self, name: RepositoryName) -> bool:
        """Whether the caller may read the repository: what is not here is fetched for nobody else."""
        return self._may_see(name)

    def repository(self, name: RepositoryName) -> Repository:
        found = super().repository(name)
        return found if self._may_see(name) else _emptied(found)

    def repositories(self) -> list[RepositoryName]:
        return [name for name in super().repositories() if self._may_see(name)]

    def polled(self) -> list[RepositoryName]:
        return [name for name in super().polled() if self._may_see(name)]


def _emptied(repository: Repository) -> Repository:
    hidden: Any = repository
    hidden._folder = f"{hidden._folder}/_hidden"  # noqa: SLF001 - a folder that no name can lead to
    return repository
