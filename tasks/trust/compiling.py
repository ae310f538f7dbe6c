"""From the profile's words (`trust`, `verify`) to policies that can be asked.

What a policy needs is imported when it is made: a profile without keyless signers never loads sigstore, one
without `verify` loads no cryptography.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from profiles.model.trust import fingerprint as fingerprints
from tasks.trust.errors import Refused, TrustBroken
from tasks.trust.policy import ACCEPT, REJECT, Mode, Policy, RequiredAttestation
from tasks.trust.verdict import SIGNED_BY_COSIGN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from profiles.model.trust.anchors import Trust
    from profiles.model.trust.signers import Signer
    from profiles.model.trust.verification import Signatures, Verify, VerifyRule
    from profiles.patterns.regex import IdentityPattern
    from tasks.trust.authorities.certificate_identity import CertificateIdentity
    from tasks.trust.notation.authority import Action, Check
    from tasks.trust.policy import Authority, ReferenceRule
    from tasks.trust.sigstore.root import SigstoreRoot

ONLY_SIGNED = Policy("onlySigned", Mode.PRESENCE, fingerprint=fingerprints.BY_ONLY_SIGNED)
"""What zot's `onlySigned: true` asks for when no rule says more."""


@dataclass
class Policies:
    """All policies of a profile. Each is made when it is first asked for; safe to share between threads."""

    trust: Trust
    verify: Verify | None
    _made: dict[int, Policy] = field(default_factory=dict, repr=False)
    _fingerprints: dict[int, str] = field(default_factory=dict, repr=False)
    _roots: dict[str, SigstoreRoot] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def for_image(self, repository: str, tag: str | None) -> Policy:
        """The policy for an image of the source `host/repository`; `tag` is None when it is pulled by digest.

        Raises `TrustBroken` when a trust root that the rule needs cannot be used.
        """
        if self.verify is None:
            return ACCEPT
        found = self.rule_for(repository, tag)
        return _default(self.verify) if found is None else self._policy(*found)

    def rule_for(self, repository: str, tag: str | None) -> tuple[int, VerifyRule] | None:
        """The first rule that matches, with its number; None: `verify.default` holds."""
        for number, rule in enumerate(self.verify.rules if self.verify else ()):
            if any(glob.matches(repository) for glob in rule.match) and _for_tag(rule, tag):
                return number, rule
        return None

    def fingerprint_for(self, repository: str, tag: str | None) -> str:
        """That of `for_image`, without making it; "" where nothing is looked up."""
        if self.verify is None:
            return ""
        found = self.rule_for(repository, tag)
        if found is None:
            return fingerprints.BY_NO_RULE if self.verify.default.require == "reject" else ""
        number, rule = found
        if rule.mode == "skip":
            return ""
        if number not in self._fingerprints:
            self._fingerprints[number] = fingerprints.fingerprint(rule, self.trust)
        return self._fingerprints[number]

    def check(self) -> None:
        """Make all of them: raises `TrustBroken` for the first that cannot be made."""
        for number, rule in enumerate(self.verify.rules if self.verify else ()):
            self._policy(number, rule)

    def authority(self, signer: Signer) -> Authority:
        """Whoever the signer names. Raises `TrustBroken`."""
        with self._lock:
            return self._authority(signer)

    def _policy(self, number: int, rule: VerifyRule) -> Policy:
        with self._lock:
            if number not in self._made:
                self._made[number] = self._make(number, rule)
            return self._made[number]

    def _make(self, number: int, rule: VerifyRule) -> Policy:
        wanted = rule.signatures
        verifying = rule.mode in ("enforce", "warn")
        return Policy(
            name=f"verify.rules[{number}]",
            mode=Mode(rule.mode),
            authorities=tuple(self._authority(signer) for signer in wanted.from_) if verifying else (),
            need=wanted.need,
            attestations=tuple(
                RequiredAttestation(each.predicate_type, frozenset(each.from_), each.need, each.condition)
                for each in rule.attestations
            ),
            formats=frozenset(wanted.formats),
            accept_predicates=frozenset({SIGNED_BY_COSIGN, *wanted.accept_predicates}),
            annotations=dict(wanted.annotations),
            reference_rule=_reference_rule(wanted),
            min_age=wanted.min_age,
            repository=wanted.repository,
            each_child=wanted.index_children == "each",
            fingerprint=fingerprints.fingerprint(rule, self.trust) if rule.mode != "skip" else "",
            on_failure=rule.failure_action,
        )

    def _authority(self, signer: Signer) -> Authority:
        makers: Mapping[str, Callable[[Signer], Authority]] = {
            "key": self._by_key,
            "keyless": self._keyless,
            "notation": self._notation,
            "x509": _by_ca,
        }
        return makers[signer.type](signer)

    def _by_key(self, signer: Signer) -> Authority:
        from tasks.trust.authorities.by_key import AnyKey, KeyAuthority
        from tasks.trust.authorities.keys import TrustedKey

        named = self.trust.keys[signer.key or ""]
        root = self._root(signer.root) if signer.root and signer.wanted_transparency != "ignore" else None
        keys = (TrustedKey(key, named.hash) for key in named.keys)
        found = [KeyAuthority(signer.name, key, signer.wanted_transparency, root) for key in keys]
        return found[0] if len(found) == 1 else AnyKey(signer.name, tuple(found))

    def _keyless(self, signer: Signer) -> Authority:
        from tasks.trust.authorities.by_certificate import KeylessAuthority

        rule = SignerIdentity(
            issuer=signer.issuer_regexp or signer.issuer or "",
            subject=signer.subject_regexp or signer.subject or "",
            extensions=signer.extensions.wanted(),
        )
        root = self._root(signer.root or "")
        if root.logs:
            return KeylessAuthority(signer.name, root, rule)
        if not root.timestamp_authorities:
            raise TrustBroken(
                f"trust.sigstore.{signer.root}: has no transparency log and no timestamp authority, so "
                "nothing dates a signature; name a trusted_root.json with one of them"
            )
        from tasks.trust.authorities.by_timestamp import TimestampedAuthority

        return TimestampedAuthority(signer.name, root, rule)

    def _root(self, name: str) -> SigstoreRoot:
        from tasks.trust.sigstore.root import SigstoreRoot

        if name not in self._roots:
            named = self.trust.sigstore[name]
            if named.builtin is not None:
                self._roots[name] = SigstoreRoot.builtin(named.builtin)
            elif named.rekor_keys:
                self._roots[name] = SigstoreRoot.from_rekor_keys(named.log_keys)
            else:
                self._roots[name] = SigstoreRoot.from_json(named.content)
        return self._roots[name]

    def _notation(self, signer: Signer) -> Authority:
        from tasks.trust.notation.authority import NotationAuthority
        from tasks.trust.notation.identities import Identities
        from tasks.trust.notation.revocation import Revocations

        stores: dict[str, list[object]] = {"ca": [], "signingAuthority": [], "tsa": []}
        for reference in signer.stores:
            store = self.trust.notation.store(reference)
            stores[reference.partition(":")[0]] += store.certificates if store else ()
        return NotationAuthority(
            signer.name,
            ca=tuple(stores["ca"]),  # type: ignore[arg-type] # they are certificates; cryptography is not loaded
            signing_authority=tuple(stores["signingAuthority"]),  # type: ignore[arg-type] # as above
            tsa=tuple(stores["tsa"]),  # type: ignore[arg-type] # as above
            identities=Identities(signer.subjects),
            actions=_actions(signer),
            always_timestamp=signer.verify_timestamp == "always",
            revocations=Revocations.from_files(self.trust.notation.revocation_lists),
        )


def _by_ca(signer: Signer) -> Authority:
    from tasks.trust.authorities.by_ca import CaAuthority

    return CaAuthority(
        signer.name,
        signer.root_certificates,
        signer.intermediate_certificates,
        signer.subject_email,
        signer.hostname,
    )


def _actions(signer: Signer) -> Mapping[Check, Action]:
    from tasks.trust.notation.authority import LEVELS

    given: dict[Check, Action | None] = {
        "authenticity": signer.override.authenticity,
        "authenticTimestamp": signer.override.authentic_timestamp,
        "expiry": signer.override.expiry,
        "revocation": signer.override.revocation,
    }
    return {**LEVELS[signer.level], **{name: action for name, action in given.items() if action}}


def _for_tag(rule: VerifyRule, tag: str | None) -> bool:
    """A digest has no tag: it gets no rule that is milder for tags, and every one that enforces."""
    if not rule.tags:
        return True
    if tag is None:
        return rule.mode == "enforce"
    return any(glob.matches(tag) for glob in rule.tags)


def _default(verify: Verify) -> Policy:
    if verify.default.require == "accept":
        return ACCEPT
    if verify.default.mode == "enforce":
        return REJECT
    return Policy("no rule", Mode.WARN, fingerprint=fingerprints.BY_NO_RULE, on_failure="keep")


@dataclass(frozen=True, slots=True)
class SignerIdentity:
    """Issuer and subject, each as exact text or as a pattern for the whole of it."""

    issuer: str | IdentityPattern
    subject: str | IdentityPattern
    extensions: Mapping[str, str] = field(default_factory=dict)

    def check(self, identity: CertificateIdentity) -> None:
        """Raises `Refused`."""
        if not _is(self.issuer, identity.issuer):
            raise Refused(
                f"the identity comes from {identity.issuer[:120]!r}, not from {_named(self.issuer)}"
            )
        if not _is(self.subject, identity.subject):
            raise Refused(f"the identity is {identity.subject[:160]!r}, not {_named(self.subject)}")
        for name, value in self.extensions.items():
            if identity.extensions.get(name) != value:
                found = identity.extensions.get(name, "not given")[:80]
                raise Refused(f"the certificate's {name} is {found!r}, not {value!r}")


def _named(wanted: str | IdentityPattern) -> str:
    """For a reason: what the profile says."""
    return repr(wanted) if isinstance(wanted, str) else f"one that matches '{wanted}'"


def _is(wanted: str | IdentityPattern, found: str) -> bool:
    return found == wanted if isinstance(wanted, str) else wanted.matches(found)


def _reference_rule(wanted: Signatures) -> ReferenceRule | None:
    if wanted.identity == "ignore":
        return None
    if isinstance(wanted.identity, str):
        return SameName(with_tag=wanted.identity == "exact")
    return SameName(with_tag=False, prefix=wanted.identity.prefix, to=wanted.identity.to)


@dataclass(frozen=True, slots=True)
class SameName:
    """The name in a cosign payload is the image's, with `to` where the image's begins with `prefix`."""

    with_tag: bool
    prefix: str = ""
    to: str = ""

    def check(self, claimed: str, reference: str) -> None:
        """Raises `Refused`."""
        wanted = reference
        if self.prefix and reference.startswith(self.prefix):
            wanted = self.to + reference.removeprefix(self.prefix)
        ours, theirs = _parts(wanted), _parts(claimed[:_LONGEST_NAME])
        # As containers/image matches: a name without a tag is not "exactly" one with a tag.
        if ours[0] != theirs[0] or (self.with_tag and ours[1] != theirs[1]):
            raise Refused(f"it was signed as {claimed[:160]!r}")


_LONGEST_NAME = 512
_TAG = re.compile(r"(?P<name>.*?)(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@[a-z0-9]+:[0-9a-f]+)?")


def _parts(reference: str) -> tuple[str, str]:
    found = _TAG.fullmatch(reference)
    return (found["name"], found["tag"] or "") if found else (reference, "")
