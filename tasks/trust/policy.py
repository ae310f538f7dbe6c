"""What an image has to have to be admitted, ready to be asked: keys loaded, roots checked.

Made from the profile's language by `tasks/trust/compiling.py`; nothing here reads files.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - `dataclasses.fields` consumers resolve it
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from profiles.model.trust.fingerprint import BY_NO_RULE
from tasks.trust.verdict import SIGNED_BY_COSIGN

if TYPE_CHECKING:
    from tasks.trust.candidates import Candidate, SigningTarget
    from tasks.trust.verdict import Evidence


class Mode(StrEnum):
    """What follows from a policy that is not met."""

    ENFORCE = "enforce"  # the image does not become visible
    WARN = "warn"  # it does, and the report says so
    PRESENCE = "presence"  # it only has to have something signature-like: never called verified
    SKIP = "skip"  # nothing is looked up


OnFailure = Literal["keep", "hide", "delete"]


class Authority(Protocol):
    """Somebody whom the profile trusts. `formats`: which of "bundle", "legacy", "notation" it reads."""

    @property
    def name(self) -> str: ...

    @property
    def formats(self) -> frozenset[str]: ...

    def check(self, candidate: Candidate, image: SigningTarget) -> Evidence:
        """Raises `Refused` when the candidate is no valid signature of the image by this authority."""
        ...


class Condition(Protocol):
    """What has to hold of a verified attestation."""

    def judge(self, document: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether it holds, and in words why not."""
        ...


class ReferenceRule(Protocol):
    """How the name in a cosign payload has to fit the name of the image."""

    def check(self, claimed: str, reference: str) -> None:
        """Raises `Refused`."""
        ...


@dataclass(frozen=True, slots=True)
class RequiredAttestation:
    """At least `need` different signers among `authorities` (names) attest `predicate_type`."""

    predicate_type: str
    authorities: frozenset[str]
    need: int = 1
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The one rule that holds for an image.

    `need` of the authorities named in `signers` have to have signed, each by another key or identity; 0 when
    attestations alone decide. `min_age` is in seconds.
    """

    name: str
    mode: Mode
    authorities: tuple[Authority, ...] = ()
    need: int = 1
    attestations: tuple[RequiredAttestation, ...] = ()
    formats: frozenset[str] = frozenset({"bundle", "legacy", "notation"})
    accept_predicates: frozenset[str] = frozenset({SIGNED_BY_COSIGN})
    annotations: Mapping[str, str] = field(default_factory=dict)
    reference_rule: ReferenceRule | None = None
    min_age: float | None = None
    repository: str | None = None  # where signatures are, when not beside the image
    each_child: bool = False  # platforms of an index need signatures of their own
    signers: frozenset[str] | None = None  # None: all authorities
    fingerprint: str = ""  # equal for policies that judge alike; "" where nothing is looked up
    on_failure: OnFailure = "hide"  # what becomes of a stored image that falls short

    @property
    def keeps_out(self) -> bool:
        """Whether an image that does not meet it stays out."""
        return self.mode in (Mode.ENFORCE, Mode.PRESENCE)

    def may_sign(self, authority: str) -> bool:
        return self.signers is None or authority in self.signers

    @property
    def predicates(self) -> frozenset[str]:
        """The types of attestation that count for anything."""
        return self.accept_predicates | {each.predicate_type for each in self.attestations}

    @property
    def wanted_formats(self) -> frozenset[str]:
        """Those that at least one authority can use: nothing else has to be looked up."""
        if self.mode is Mode.PRESENCE:
            return self.formats
        usable = frozenset[str]().union(*(authority.formats for authority in self.authorities))
        return self.formats & usable


REJECT = Policy(
    "no rule", Mode.ENFORCE, fingerprint=BY_NO_RULE
)  # no authority can ever be satisfied: what no rule names stays out
"""What holds for an image that no rule names, where the profile says `require: reject`."""
ACCEPT = Policy("no rule", Mode.SKIP)
