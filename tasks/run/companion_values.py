"""What the steps hand on about companions: what is wanted, what was found, what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from profiles.model.referrers import Referrers
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.errors import MirrorflowError
    from registry_server.oci.reference import Tag


class CompanionStatus(StrEnum):
    """What came of a companion."""

    COPIED = "copied"
    FAILED = "failed"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Following:
    """What the rules want of an image's companions. `deep`: also look again at what is here already."""

    wishes: tuple[Referrers, ...]
    deep: bool = False

    @property
    def takes_all(self) -> bool:
        return any(wish.takes_all for wish in self.wishes)

    def takes(self, artifact_type: str | None, annotations: Mapping[str, str]) -> bool:
        return any(wish.takes(artifact_type, annotations) for wish in self.wishes)


@dataclass(frozen=True, slots=True)
class CompanionPlan:
    """One companion: manifests to store, its own last, and the blobs that they need.

    `descriptor` is as a list of referrers shows it; `tag` is set for a signature tag of cosign's.
    """

    subject: Digest
    descriptor: Descriptor
    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]
    tag: Tag | None = None

    @property
    def name(self) -> str:
        return str(self.tag or self.descriptor.digest)


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of one companion. `type` is its artifact type, "" where that is not known."""

    companion: str
    type: str
    outcome: CompanionStatus
    reason: str = ""
    error: MirrorflowError | None = None

    def to_json(self) -> dict[str, Any]:
        found = {"companion": self.companion, "type": self.type, "outcome": str(self.outcome)}
        return found | {"reason": self.reason}


@dataclass(slots=True)
class CompanionSet:
    """The companions that an image brings, and what could not be found out about others.

    `versions`: the fallback lists that this rests on, digest by tag.
    """

    plans: list[CompanionPlan] = field(default_factory=list)
    troubles: list[Followed] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def blobs(self) -> Iterator[Descriptor]:
        return (blob for plan in self.plans for blob in plan.blobs)

    @property
    def failures(self) -> list[Followed]:
        return [each for each in self.troubles if each.outcome is CompanionStatus.FAILED]
