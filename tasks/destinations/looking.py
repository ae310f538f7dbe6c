"""What the tags in other registries name now, and what that means for an image.

One HEAD a tag. Where this mirror has written none of many tags of a repository, one list of its tags tells
which of them need no HEAD, because they are not there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from registry_server.oci.reference import ImageName, RepositoryName
    from registry_server.store.store import Store
    from tasks.destinations.registry import RegistryDestination
    from tasks.destinations.targets import Targets

    Question = tuple[RegistryDestination, ImageName]

T = TypeVar("T")
R = TypeVar("R")
_MANY: Final = 5  # tags of a repository for which its list is asked for


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


class Each(Protocol):
    """`work` of all items, side by side; an item's error is its result. In order."""

    def __call__(
        self, work: Callable[[T], R], items: Iterable[T], /
    ) -> list[tuple[T, R | MirrorflowError]]: ...


@dataclass(slots=True)
class Look:
    """The answers of one search. Registries whose word is trusted are not asked for what we wrote there."""

    targets: Targets
    answers: dict[tuple[str, ImageName], Digest | MirrorflowError | None]

    @classmethod
    def at(cls, targets: Targets, names: Iterable[ImageName], each: Each) -> Look:
        """Ask for all these names; `each` does the asking, side by side."""
        ours = {
            (registry, name): ours_in(registry, name) for name in names for registry in targets.registries
        }
        questions = [
            question
            for question, digest in ours.items()
            if not (question[0].settings.trust_destination and digest)
        ]
        absent = _absent([question for question in questions if ours[question] is None], each)
        found = each(_ask, [question for question in questions if question not in absent])
        answers = {**dict.fromkeys(absent), **dict(found)}
        return cls(targets, {(registry.name, name): answer for (registry, name), answer in answers.items()})

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


def _ask(question: Question) -> Digest | None:
    registry, name = question
    return registry.names(name.repository, name.reference)


def _absent(questions: Iterable[Question], each: Each) -> set[Question]:
    """Those of the tags that are not there, by the lists of the repositories of which many are asked for."""
    groups: defaultdict[tuple[RegistryDestination, RepositoryName], list[Question]] = defaultdict(list)
    for question in questions:
        if isinstance(question[1].reference, Tag):
            groups[question[0], question[1].repository].append(question)
    many = [place for place, asked in groups.items() if len(asked) >= _MANY]
    listed = each(lambda place: place[0].tags(place[1]), many)
    return {
        question
        for place, tags in listed
        if isinstance(tags, frozenset)
        for question in groups[place]
        if question[1].reference not in tags
    }


def ours_in(registry: RegistryDestination, name: ImageName) -> Digest | None:
    """What this mirror has written there under that name."""
    return _remembered(registry.state, name)


def _remembered(state: Store, name: ImageName) -> Digest | None:
    repository = state.repository(name.repository)
    if isinstance(name.reference, Digest):
        return name.reference if repository.has_blob(name.reference) else None
    record = repository.tag(name.reference)
    return record.digest if record else None
