"""Fetching the manifests of companions: signatures, attestations, SBOMs, and what refers to those."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from registry_server.oci.descriptor import Descriptor
from registry_server.oci.errors import MirrorflowError
from tasks.companions.admission import why_left_out
from tasks.companions.missing import FOREIGN, children_here, find_missing, signature_tags
from tasks.context.verification import enforces, is_strict
from tasks.manifests.manifest_tree import keeping, walk
from tasks.manifests.up_to_date import is_up_to_date
from tasks.manifests.verdict_record import OWN_TYPE
from tasks.run.companion_values import CompanionPlan, CompanionStatus, Followed
from tasks.run.errors import CompanionNotCopied, ReservedType, is_stop
from tasks.run.values import Image
from tasks.upstream.errors import BROKEN, UpstreamNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import Tag
    from tasks.companions.missing import CompanionSearch, Lacking
    from tasks.context.mirror_run import MirrorRun
    from tasks.manifests.manifest_tree import ManifestSource
    from tasks.run.companion_values import CompanionSet, Following
    from tasks.run.values import ImagePlan

    Source = Callable[[Image], ManifestSource]

NOT_THERE: Final = "is listed, and is not there"


def with_companions(run: MirrorRun, image: Image, plan: ImagePlan, source: Source | None = None) -> ImagePlan:
    """The plan, with the companions that are not here yet.

    Raises `CompanionNotCopied` where one of them cannot be had and the rule does not take the image without.
    """
    if image.following is None:
        return plan
    stores = source is None
    source = source or (lambda each: keeping(run, each))
    company = _gather(_Gathering(run, image, image.following, source, stores), plan)
    for failure in company.failures:
        if is_required(run, image) and failure.error is not None:
            raise CompanionNotCopied(failure.companion, failure.error)
    return replace(plan, company=company)


def is_required(run: MirrorRun, image: Image) -> bool:
    """Whether the image fails with its companions; what is here already does not go for that."""
    wishes = image.following.wishes if image.following else ()
    said = [wish.on_failure or ("image" if enforces(run, image) else "report") for wish in wishes]
    return "image" in said


@dataclass(frozen=True, slots=True)
class _Gathering:
    run: MirrorRun
    image: Image
    following: Following
    source: Source
    stores: bool


def _gather(this: _Gathering, plan: ImagePlan) -> CompanionSet:
    run, image = this.run, this.image
    seeking = find_missing(run, image, this.following)
    _look_below(this, seeking, plan)
    for lacking in seeking:
        descriptor = lacking.descriptor
        try:
            found = _plan(this, seeking, lacking)
        except UpstreamNotFound:
            seeking.leave_out(descriptor, NOT_THERE)
        except ReservedType:
            seeking.leave_out(descriptor, OWN_TYPE, lasting=True)
        except MirrorflowError as error:
            if is_stop(error):
                raise
            if isinstance(error, BROKEN) and is_strict(run, image):
                # Otherwise an attacker with push rights denies the image with a broken neighbour.
                seeking.leave_out(descriptor, str(error))
                continue
            seeking.fail(str(descriptor.digest), error, descriptor.artifact_type or "")
        else:
            if found is not None:
                seeking.company.plans.append(found)
                seeking.look_at(descriptor.digest, lacking.level + 1)
    if not image.held:
        _gather_tags(this, seeking, plan)
    return seeking.company


def _look_below(this: _Gathering, seeking: CompanionSearch, plan: ImagePlan) -> None:
    """Platforms, and attestations inside of the index, may have companions of their own."""
    if this.image.held:
        below = list(children_here(seeking.repository, this.image.digest)) if this.following.deep else []
    else:
        made = {each.digest for each in plan.renamed.values()}
        below = [each.digest for each in plan.manifests if each.digest not in made]
    for digest in below:
        seeking.look_at(digest)


def _plan(this: _Gathering, seeking: CompanionSearch, lacking: Lacking) -> CompanionPlan | None:
    """None for one that is left out. Raises what reading a manifest raises."""
    digest = lacking.descriptor.digest
    part = _as_image(this.image, lacking.descriptor.digest, lacking.descriptor.media_type)
    source = this.source(part)
    manifest = source.peek(lacking.descriptor)
    own = manifest.descriptor(digest.algorithm)
    if not lacking.sure and not this.following.takes(own.artifact_type, own.annotations):
        return None
    reason = _why_not(this, manifest, lacking.subject)
    if reason:
        seeking.leave_out(own, reason, lasting=True)
        return None
    found = walk(this.run, part, source)
    return CompanionPlan(lacking.subject, own, found.manifests, found.blobs)


def _why_not(this: _Gathering, manifest: Manifest, subject: Digest) -> str:
    """Upstream content enters only as what the rule means: a companion of this image, and no other image."""
    if manifest.subject is None or manifest.subject.digest != subject:
        return FOREIGN
    return _left_out(this, this.image, manifest)


def _left_out(this: _Gathering, image: Image, manifest: Manifest) -> str:
    strict = is_strict(this.run, this.image)
    return why_left_out(this.run, image, manifest, strict=strict, store=this.stores)


def _as_image(image: Image, digest: Digest, media_type: str, tag: Tag | None = None) -> Image:
    return Image(image.source, image.local, tag or digest, digest, media_type)


def _gather_tags(this: _Gathering, seeking: CompanionSearch, plan: ImagePlan) -> None:
    """cosign's tags for the image, its platforms and its companions, if there are any.

    Those of the image itself are images of the run as well, with a row of their own in the report.
    """
    if not this.run.entry.sync_legacy_cosign_tags:
        return
    company = seeking.company
    subjects = [each.digest for each in (*plan.manifests, *(each.descriptor for each in company.plans))]
    tags = {subject: signature_tags(this.run, this.image.source, subject) for subject in subjects}
    for tag, subject in [(tag, subject) for subject, found in tags.items() for tag in found]:
        try:
            found = _tagged(this, seeking, tag, subject)
        except MirrorflowError as error:
            if is_stop(error):
                raise
            seeking.fail(str(tag), error)
        else:
            company.plans += [found] if found else []


def _tagged(this: _Gathering, seeking: CompanionSearch, tag: Tag, subject: Digest) -> CompanionPlan | None:
    head = this.run.upstream.head(this.image.source, tag)
    if is_up_to_date(seeking.repository, tag, head.digest):
        return None
    part = _as_image(this.image, head.digest, head.media_type, tag)
    source = this.source(part)
    manifest = source.peek(Descriptor(head.media_type, head.digest, -1))
    if reason := _left_out(this, part, manifest):
        seeking.company.troubles.append(Followed(str(tag), "", CompanionStatus.LEFT_OUT, reason))
        return None
    found = walk(this.run, part, source)
    return CompanionPlan(subject, found.root, found.manifests, found.blobs, tag)
