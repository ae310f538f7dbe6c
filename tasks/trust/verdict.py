"""The outcome of a judgement, and all that was seen on the way to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - `dataclasses.fields` consumers resolve it
from enum import StrEnum
from typing import Any

from registry_server.counted import counted

_MOST_FINDINGS = 8
SIGNED_BY_COSIGN = "https://sigstore.dev/cosign/sign/v1"


class VerdictOutcome(StrEnum):
    """What a policy says of an image. Only `VERIFIED` may be called verified in a report."""

    VERIFIED = "verified"
    REFUSED = "refused"
    WARNED = "admitted with a warning"
    PRESENT = "signature present, not verified"
    SKIPPED = "no policy"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one signature proves, once everything about it has been checked.

    `when` is a time that a log or a timestamp authority vouches for, never what the signer claims.
    `signer` is equal for two signatures exactly when the same key or identity made them.
    """

    signer: str
    who: str
    issuer: str = ""
    when: datetime | None = None
    log_index: int | None = None
    predicate_type: str | None = None  # None: a plain signature over the image
    statement: dict[str, Any] | None = field(default=None, repr=False)
    annotations: dict[str, Any] = field(default_factory=dict)
    docker_reference: str | None = None  # only cosign's simple signing claims one
    notes: tuple[str, ...] = ()  # failed checks that the policy only logs


@dataclass(frozen=True, slots=True)
class FoundSignature:
    """One signature object that the upstream holds for the image."""

    format: str  # "cosign", "bundle", "attestation", "notation"
    where: str  # "referrer sha256:…", "tag sha256-….sig, layer 2"
    authorities: tuple[str, ...] = ()  # for which it counted
    reasons: tuple[str, ...] = ()  # "authority: why it did not count"
    who: str = ""
    issuer: str = ""
    when: datetime | None = None
    log_index: int | None = None
    predicate_type: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def counted(self) -> bool:
        return bool(self.authorities)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` say why the outcome is what it is; empty for a plain pass."""

    outcome: VerdictOutcome
    reasons: tuple[str, ...] = ()
    signatures: tuple[FoundSignature, ...] = ()
    policy: str = ""
    judged_by: str = ""  # the policy's fingerprint

    @property
    def admits(self) -> bool:
        """Whether the image may become visible."""
        return self.outcome is not VerdictOutcome.REFUSED

    @property
    def findings(self) -> tuple[str, ...]:
        """Why signatures do not count: each reason once, with how many share it; at most `_MOST_FINDINGS`."""
        counts = Counter(reason for found in self.signatures for reason in found.reasons)
        said = [f"{count} x {reason}" if count > 1 else reason for reason, count in counts.items()]
        more = len(said) - _MOST_FINDINGS
        return (*said[:_MOST_FINDINGS], *([f"and {counted(more, 'more reason')}"] if more > 0 else []))

    @property
    def who(self) -> tuple[str, ...]:
        """The signers that counted."""
        return tuple(dict.fromkeys(found.who for found in self.signatures if found.counted))

    @property
    def when(self) -> datetime | None:
        """The earliest verified time among the signatures that counted."""
        return min((found.when for found in self.signatures if found.counted and found.when), default=None)

    @property
    def authority(self) -> tuple[str, ...]:
        """The names of the authorities that matched, in the order of the policy."""
        return tuple(dict.fromkeys(name for found in self.signatures for name in found.authorities))

    @property
    def summary(self) -> str:
        """One line for reports, e.g. `verified: alice@example.com (team), 2026-01-02T03:04:05+00:00`."""
        if self.reasons:
            return f"{self.outcome}: {'; '.join((*self.reasons, *self.findings))}"
        if not self.who:
            return str(self.outcome)
        when = f", {self.when.isoformat()}" if self.when else ""
        return f"{self.outcome}: {', '.join(self.who)} ({', '.join(self.authority)}){when}"

    def to_json(self) -> dict[str, Any]:
        """For reports and for the referrer that records it."""
        return {
            "outcome": str(self.outcome),
            "admits": self.admits,
            "policy": self.policy,
            "reasons": list(self.reasons),
            "signatures": [_as_json(found) for found in self.signatures],
        }


def _as_json(found: FoundSignature) -> dict[str, Any]:
    return {
        "format": found.format,
        "where": found.where,
        "counted": found.counted,
        "authorities": list(found.authorities),
        "reasons": list(found.reasons),
        "who": found.who,
        "issuer": found.issuer,
        "when": found.when.isoformat() if found.when else None,
        "logIndex": found.log_index,
        "predicateType": found.predicate_type,
        "notes": list(found.notes),
    }
