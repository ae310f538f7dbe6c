"""A Notary Project trust policy as an authority: stores, identities, and how strictly each check is taken."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from tasks.trust.authorities.by_ca import certificate_fingerprint
from tasks.trust.candidates import NotationSignature
from tasks.trust.errors import Refused, refusing
from tasks.trust.notation.chain import check_chain, check_validity, trusted
from tasks.trust.notation.envelope import AUTHORITY_SCHEME, NotationEnvelope, read_envelope
from tasks.trust.notation.identities import Identities
from tasks.trust.notation.payload import check_target
from tasks.trust.notation.revocation import Revocations
from tasks.trust.notation.timestamps import Moment, verify_token
from tasks.trust.verdict import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography import x509

    from tasks.trust.candidates import Candidate, SigningTarget

Action = Literal["enforce", "log", "skip"]
Check = Literal["authenticity", "authenticTimestamp", "expiry", "revocation"]
Level = Literal["strict", "permissive", "audit"]
# trust-policy, "Signature Verification Levels"; integrity is always enforced.
LEVELS: Final[Mapping[Level, Mapping[Check, Action]]] = {
    "strict": dict.fromkeys(("authenticity", "authenticTimestamp", "expiry", "revocation"), "enforce"),
    "permissive": {
        "authenticity": "enforce",
        "authenticTimestamp": "log",
        "expiry": "log",
        "revocation": "log",
    },
    "audit": dict.fromkeys(("authenticity", "authenticTimestamp", "expiry", "revocation"), "log"),
}


@dataclass(frozen=True, slots=True)
class NotationAuthority:
    """Whoever holds a certificate that the stores vouch for and `identities` name.

    `ca` vouches for the scheme notary.x509, `signing_authority` for the other one; they never mix.
    `now` fixes the time for tests.
    """

    name: str
    ca: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    signing_authority: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    tsa: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    identities: Identities = field(default_factory=Identities)
    actions: Mapping[Check, Action] = field(default_factory=lambda: LEVELS["strict"])
    always_timestamp: bool = True  # False: only when a certificate has expired
    revocations: Revocations = field(default_factory=Revocations)
    now: datetime | None = None

    @property
    def formats(self) -> frozenset[str]:
        return frozenset({"notation"})

    def check(self, candidate: Candidate, image: SigningTarget) -> Evidence:
        """Raises `Refused`."""
        if not isinstance(candidate, NotationSignature):
            raise Refused("not a Notary Project signature")
        with refusing("not a valid Notary Project signature"):
            envelope = read_envelope(candidate.media_type, candidate.content)
            envelope.check_signature()
            check_target(envelope.payload, image, candidate.subject)
            return self._judge(envelope)

    def _judge(self, envelope: NotationEnvelope) -> Evidence:
        """The checks after integrity, in the order of the specification's workflow."""
        now = self.now or datetime.now(UTC)
        notes: list[str] = []
        leaf = envelope.chain[0]
        who = leaf.subject.rfc4514_string()
        evidence = Evidence(
            signer=f"certificate {certificate_fingerprint(envelope.chain[-1])} {who}",
            who=who,
            issuer=leaf.issuer.rfc4514_string(),
        )
        self._run("authenticity", notes, lambda: self._authenticity(envelope))
        self._run("expiry", notes, lambda: _expiry(envelope, now))
        found: list[datetime] = []
        self._run("authenticTimestamp", notes, lambda: found.extend(self._timestamp(envelope, now)))
        self._run("revocation", notes, lambda: self.revocations.check(envelope.chain, now))
        return replace(evidence, when=found[0] if found else None, notes=tuple(notes))

    def _run(self, name: Check, notes: list[str], check: Callable[[], None]) -> None:
        """Raises `Refused` where the policy enforces the check; else a failure becomes a note."""
        action = self.actions[name]
        if action == "skip":
            return
        try:
            with refusing(name):
                check()
        except Refused as error:
            if action == "enforce":
                raise
            notes.append(f"{name}: {error}")

    def _authenticity(self, envelope: NotationEnvelope) -> None:
        check_chain(envelope.chain)
        store = self.signing_authority if envelope.scheme == AUTHORITY_SCHEME else self.ca
        trusted(envelope.chain, store)
        if not self.identities.take(envelope.chain[0].subject):
            found = envelope.chain[0].subject.rfc4514_string()[:120]
            raise Refused(f"the identity is {found}, and the policy trusts {self.identities}")

    def _timestamp(self, envelope: NotationEnvelope, now: datetime) -> list[datetime]:
        """The time that somebody trusted vouches for, if one is needed; the chain was valid then."""
        if envelope.scheme == AUTHORITY_SCHEME:
            when = envelope.signing_time
            check_validity(envelope.chain, when, when, "at the signing time")
            return [when]
        expired = any(now > each.not_valid_after_utc for each in envelope.chain)
        if not self.tsa or not (self.always_timestamp or expired):
            check_validity(envelope.chain, now, now, "now")
            return []
        moment = self._moment(envelope)
        check_validity(envelope.chain, moment.earliest, moment.latest, "at the time of the timestamp")
        return [moment.latest]

    def _moment(self, envelope: NotationEnvelope) -> Moment:
        if envelope.timestamp is None:
            raise Refused("it has no timestamp, and the policy has timestamp authorities")
        with refusing("its timestamp is not valid"):
            return verify_token(envelope.timestamp, envelope.signature, self.tsa)


def _expiry(envelope: NotationEnvelope, now: datetime) -> None:
    if envelope.expiry is not None and now > envelope.expiry:
        raise Refused(f"the signature expired at {envelope.expiry:%Y-%m-%d %H:%M}")
