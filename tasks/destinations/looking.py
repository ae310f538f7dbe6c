"""What the tags in other registries name now, and what that means for an image: one HEAD a tag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from registry_server.oci.reference import ImageName
    from registry_server.store.store import Store
    from tasks.destinations.registry import RegistryDestination
    from tasks.destinations.targets import Targets

    Each = Callable[
        [Callable[["Question"], "Digest | None"], Sequence["Question"]],
        list[tuple["Question", "Digest | MirrorflowError | None"]],
    ]
    Question = tuple[RegistryDestination, ImageName]


@dataclass(frozen=True, slots=True)
class ThereNow:
    """Of one image in all destinations that are no store.

    `lacking`: one of them has not got it. `moved`: by destination, why its tag is left as it is there.
    `error`: one of them could not be asked.
    """

    lacking: bool = False
    moved: Mapping[str, str] = field(default_factory=dict)
    error: MirrorflowError | None = None


IN_PLACE: Final = ThereNow()


@dataclass(slots=True)
class Look:
    """The answers of one search. Registries whose word is trusted are not asked for what we wrote there."""

    targets: Targets
    answers: dict[tuple[str, ImageName], Digest | MirrorflowError | None]

    @classmethod
    def at(cls, targets: Targets, names: Iterable[ImageName], each: Each) -> Look:
        """Ask for all these names; `each` does the asking, side by side."""
        questions = [
            (registry, name)
            for name in names
            for registry in targets.registries
            if not (registry.settings.trust_destination and ours_in(registry, name))
        ]
        found = each(
            lambda question: question[0].names(question[1].repository, question[1].reference), questions
        )
        return cls(targets, {(registry.name, name): answer for (registry, name), answer in found})

    def judge(self, name: ImageName, upstream: Digest) -> ThereNow:
        """`upstream` is what the image is there."""
        lacking, moved = False, dict[str, str]()
        for registry in self.targets.registries:
            ours = ours_in(registry, name)
            there = self.answers.get((registry.name, name), ours)
            if isinstance(there, MirrorflowError):
                return ThereNow(error=there)
            wanted = self._wanted(registry, name, ours)
            if there == wanted and wanted is not None and ours is not None:
                continue
            if there in (None, ours, wanted, upstream) or registry.settings.force:
                lacking = True
            else:
                remote = registry.remote(name.repository)
                moved[registry.name] = (
                    f"somebody else has set it in destination {registry.name}, where "
                    f"{remote}:{name.reference} names {there}; it is overwritten with `force: true` only"
                )
        return ThereNow(lacking, moved)

    def _wanted(self, registry: RegistryDestination, name: ImageName, ours: Digest | None) -> Digest | None:
        """What the first destination has, of which the others are copies."""
        primary = self.targets.primary
        return ours if registry is primary else _remembered(primary.state, name)


def ours_in(registry: RegistryDestination, name: ImageName) -> Digest | None:
    """What this mirror has written there under that name."""
    return _remembered(registry.state, name)


def _remembered(state: Store, name: ImageName) -> Digest | None:
    repository = state.repository(name.repository)
    if isinstance(name.reference, Digest):
        return name.reference if repository.has_blob(name.reference) else None
    record = repository.tag(name.reference)
    return record.digest if record else None
