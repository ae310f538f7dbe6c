"""May this image be admitted? The one entry point, and how many authorities are satisfied."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from registry_server.oci.descriptor import Descriptor
from registry_server.oci.errors import ManifestInvalid, MirrorflowError
from registry_server.oci.media_types import may_list_manifests
from tasks.trust.candidates import SigningTarget
from tasks.trust.discovery import Search, discover
from tasks.trust.policy import Mode, Policy
from tasks.trust.presence import look
from tasks.trust.verdict import Verdict, VerdictOutcome
from tasks.trust.weighing import Circumstances, weigh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from registry_server.oci.digest import Digest
    from tasks.trust.sources import SignatureSource
    from tasks.trust.weighing import Weighed

MOST_CHILDREN: Final = 4096  # manifests of one image, as in tasks/manifests/manifest_tree.py
_SHORT: Final = (VerdictOutcome.REFUSED, VerdictOutcome.WARNED)


class ChildUnread(MirrorflowError):
    """What an index lists may be a manifest, and cannot be read: nobody can say that it is signed."""


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
        return Verdict(VerdictOutcome.SKIPPED, policy=policy.name)
    around = Circumstances(SigningTarget(image_digest, media_type, size), now or datetime.now(UTC), reference)
    search = Search(image_digest, policy.wanted_formats, bool(policy.attestations), policy.predicates)
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


def judge_image(
    digest: Digest,
    media_type: str,
    signatures: SignatureSource,
    policy: Policy,
    *,
    children: Callable[[Descriptor], Iterable[Descriptor]],
    reference: str = "",
    thorough: bool = False,
) -> Verdict:
    """`judge`, and where the policy says `indexChildren: each` also every platform of an index.

    `children` gives the manifests that an index lists; it is asked for all that may be an index, whatever
    its depth, and not for images. The first one that falls short decides, or that `children` cannot read
    (`ChildUnread`). Raises what `judge` and `children` raise else.
    """
    verdict = judge(digest, media_type, signatures, policy, reference=reference, thorough=thorough)
    if not policy.each_child or verdict.outcome in _SHORT:
        return verdict
    try:
        for child in _descendants(Descriptor(media_type, digest, -1), children):
            found = judge(child.digest, child.media_type, signatures, policy, reference=reference)
            if found.outcome in _SHORT:
                name = str(child.platform) if child.platform else child.digest.short
                reasons = tuple(f"{name}: {reason}" for reason in found.reasons)
                return replace(found, reasons=reasons, signatures=(*verdict.signatures, *found.signatures))
    except ChildUnread as error:
        outcome = VerdictOutcome.WARNED if policy.mode is Mode.WARN else VerdictOutcome.REFUSED
        return replace(verdict, outcome=outcome, reasons=(str(error),))
    return verdict


def _descendants(
    root: Descriptor, children: Callable[[Descriptor], Iterable[Descriptor]]
) -> Iterator[Descriptor]:
    """The manifests below an index, those of nested indexes too; each digest once."""
    pending, seen = [root], {root.digest}
    while pending:
        parent = pending.pop()
        for child in children(parent) if may_list_manifests(parent.media_type) else ():
            if child.digest in seen:
                continue
            seen.add(child.digest)
            if len(seen) > MOST_CHILDREN:
                raise ManifestInvalid(f"the index has more than {MOST_CHILDREN} manifests; this is no image")
            yield child
            pending.append(child)


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
    outcome = VerdictOutcome.VERIFIED
    if reasons:
        outcome = VerdictOutcome.WARNED if policy.mode is Mode.WARN else VerdictOutcome.REFUSED
    return Verdict(outcome, reasons, tuple(one.found for one in weighed), policy.name, policy.fingerprint)


def most_pairs(edges: Iterable[tuple[str, str]]) -> int:
    """The most (authority, signer) pairs in which no authority and no signer stands twice.

    One signer that fits two authorities counts once; a key that signs twice counts once. A maximum matching
    by augmenting paths; there are at most a few dozen of each.
    """
    signers: dict[str, list[str]] = {}
    for authority, signer in edges:
        signers.setdefault(authority, []).append(signer)
    taken: dict[str, str] = {}
    return sum(_augment(authority, signers, taken, set()) for authority in signers)


def _augment(authority: str, signers: dict[str, list[str]], taken: dict[str, str], seen: set[str]) -> bool:
    for signer in signers[authority]:
        if signer in seen:
            continue
        seen.add(signer)
        if signer not in taken or _augment(taken[signer], signers, taken, seen):
            taken[signer] = authority
            return True
    return False
