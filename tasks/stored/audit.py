"""Every stored image judged by today's policies: what `audit` reports.

It reads the store alone. Earlier verdicts count for nothing: what a tag record says was true when it was
written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.media_types import may_list_manifests
from tasks.run.values import NO_POLICY
from tasks.stored.images import held_children
from tasks.trust.verdict import Verdict, VerdictOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_server.store.repository import Repository
    from tasks.stored.images import StoredImage, StoredImages
    from tasks.trust.policy import Policy

_SHORT: Final = (VerdictOutcome.REFUSED, VerdictOutcome.WARNED)


class Result(StrEnum):
    """What an audit says of one image, in one word."""

    PASSED = "passed"
    SHORT = "falls short"
    NO_POLICY = "no policy"


@dataclass(frozen=True, slots=True)
class Audited:
    """One stored image with its verdict; None: no policy covers it."""

    image: StoredImage
    verdict: Verdict | None = None

    @property
    def result(self) -> Result:
        if self.verdict is None:
            return Result.NO_POLICY
        return Result.SHORT if self.verdict.outcome in _SHORT else Result.PASSED

    @property
    def outcome(self) -> str:
        return str(self.verdict.outcome) if self.verdict else NO_POLICY

    @property
    def rule(self) -> str:
        return self.verdict.policy if self.verdict else ""

    @property
    def reason(self) -> str:
        """Why it is not as the policy wants it, and that it is not served; "" when all is well."""
        said = [self.verdict.summary.partition(": ")[2]] if self.verdict and self.verdict.reasons else []
        if self.image.hidden:
            said.append("it is hidden")
        return "; ".join(said)

    @property
    def signers(self) -> tuple[str, ...]:
        return self.verdict.who if self.verdict else ()

    @property
    def when(self) -> str:
        """The earliest time that a log or a timestamp authority vouches for; "" for none."""
        when = self.verdict.when if self.verdict else None
        return when.isoformat() if when else ""

    def to_json(self) -> dict[str, Any]:
        """`digest` is what signatures are made for; `storedDigest` what the tag names here."""
        return {
            "registry": self.image.entry.name,
            "image": self.image.name,
            "source": f"{self.image.source}:{self.image.tag}",
            "digest": self.image.upstream_digest,
            "storedDigest": self.image.record.digest,
            "result": str(self.result),
            "rule": self.rule,
            "fingerprint": self.image.policy,
            "outcome": self.outcome,
            "reason": self.reason,
            "signers": list(self.signers),
            "when": self.when or None,
            "standing": str(self.image.standing),
            "signatures": self.verdict.to_json()["signatures"] if self.verdict else [],
        }


def audit(images: StoredImages) -> Iterator[Audited]:
    """Judge all images of the store, one after the other; what is damaged falls short.

    Raises `TrustBroken` when a key or root that a rule needs cannot be used, and `StoreError` when the store
    cannot be listed.
    """
    for image in images.all():
        policy = images.policy_of(image)
        verdict = _verdict(images, image, policy) if policy else None
        # What was moved, hidden or deleted meanwhile is not what was judged.
        if verdict is None or verdict.admits or _is_there(images, image):
            yield Audited(image, verdict)


def _verdict(images: StoredImages, image: StoredImage, policy: Policy) -> Verdict:
    try:
        _read_manifests(images.area(image), image)
        verdict = images.judge(image)
    except MirrorflowError as error:
        return _short(policy, f"it cannot be judged: {error}")
    assert verdict is not None, "a policy covers it"
    if verdict.outcome in _SHORT and images.signatures_place(image) is None:
        return _short(policy, f"the profile does not mirror {policy.repository}, where its signatures are")
    return verdict


def _short(policy: Policy, reason: str) -> Verdict:
    outcome = VerdictOutcome.REFUSED if policy.keeps_out else VerdictOutcome.WARNED
    return Verdict(outcome, (reason,), policy=policy.name, judged_by=policy.fingerprint)


def _read_manifests(repository: Repository, image: StoredImage) -> None:
    """Every manifest of the image, whose bytes are checked. Raises what is wrong with one of them."""
    pending, seen = list(image.record.roots), set(image.record.sparse)
    while pending:
        digest = pending.pop()
        if digest in seen:
            continue
        seen.add(digest)
        descriptor, _ = repository.read_manifest(digest)
        if may_list_manifests(descriptor.media_type):
            pending += [child.digest for child in held_children(repository, digest)]


def _is_there(images: StoredImages, image: StoredImage) -> bool:
    record = images.area(image).tag(image.tag)
    return record is not None and record.roots == image.record.roots
