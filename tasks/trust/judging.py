"""The one entry point: may this image be admitted?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tasks.trust.candidates import Image
from tasks.trust.counting import most_pairs
from tasks.trust.discovery import Search, discover
from tasks.trust.policy import Mode, Policy
from tasks.trust.presence import look
from tasks.trust.verdict import Outcome, Verdict
from tasks.trust.weighing import Circumstances, weigh

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from tasks.trust.source import SignatureSource
    from tasks.trust.weighing import Weighed


def judge(
    image_digest: Digest,
    media_type: str,
    signatures_source: SignatureSource,
    policy: Policy,
    *,
    size: int | None = None,
    reference: str = "",
    now: datetime | None = None,
    thorough: bool = False,
) -> Verdict:
    """The verdict of `policy` on the image with this digest.

    `signatures_source` is the repository that holds the signatures: `policy.repository` if it names one, else
    the image's own. `size` is that of the manifest, in bytes. `reference` (`host/repository:tag`) matters to
    policies that look at the name in a signature. `thorough` also looks at what the outcome no longer
    depends on. Raises only what the source raises: an error is never taken for "unsigned".
    """
    if policy.mode is Mode.SKIP:
        return Verdict(Outcome.SKIPPED, policy=policy.name)
    around = Circumstances(Image(image_digest, media_type, size), now or datetime.now(UTC), reference)
    search = Search(image_digest, policy.wanted_formats, bool(policy.attestations))
    if policy.mode is Mode.PRESENCE:
        return look(signatures_source, search, policy, around.image)
    weighed: list[Weighed] = []
    if not policy.authorities:
        return _verdict(weighed, policy)
    for candidate in discover(signatures_source, search):
        weighed.append(weigh(candidate, policy, around))
        if not thorough and not missing(weighed, policy):
            break
    return _verdict(weighed, policy)


def missing(weighed: list[Weighed], policy: Policy) -> tuple[str, ...]:
    """What the policy asks for and was not found, in words; empty: it is met."""
    reasons = []
    have = most_pairs(pair for one in weighed for pair in one.signed)
    if not policy.authorities:
        reasons.append("no rule of the profile admits this image")
    elif have < policy.need:
        reasons.append(_unsigned(weighed) if policy.need == 1 else f"{have} of {policy.need} signatures")
    for number, wanted in enumerate(policy.attestations):
        have = most_pairs(pair for one in weighed for pair in one.attested.get(number, ()))
        if have < wanted.need:
            reasons.append(f"{have} of {wanted.need} required attestations of {wanted.predicate_type}")
    return tuple(reasons)


def _unsigned(weighed: list[Weighed]) -> str:
    if not weighed:
        return "it has no signature"
    return (
        "its signature does not count" if len(weighed) == 1 else f"none of {len(weighed)} signatures counts"
    )


def _verdict(weighed: list[Weighed], policy: Policy) -> Verdict:
    reasons = missing(weighed, policy)
    outcome = Outcome.VERIFIED
    if reasons:
        outcome = Outcome.WARNED if policy.mode is Mode.WARN else Outcome.REFUSED
    return Verdict(outcome, reasons, tuple(one.found for one in weighed), policy.name)
