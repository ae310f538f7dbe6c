"""Which verdict an image needs, and getting it: nothing is admitted before (invariant 4).

What judges signatures is imported when a policy asks for it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from profiles.image_parts import is_surely_blob, wanted_children
from profiles.matching import has_min_age, source_name
from profiles.model.trust.fingerprint import BY_ONLY_SIGNED
from registry_server.oci import media_types
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.errors import ContentError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from tasks.companions.admission import subject_in_store, why_left_out
from tasks.context.verification import policy_of, tag_in
from tasks.manifests.reading import fetch, parsed
from tasks.run.errors import CompanionNotAdmitted, NotAdmitted, NotSigned
from tasks.run.values import NO_POLICY, Admission
from tasks.upstream.errors import UpstreamNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image, Subject
    from tasks.trust.verdict import Verdict

log = logging.getLogger("mirrorflow.verify_signature")
IN_PLACE: Final = "admitted before"


def verify_image(run: MirrorRun, image: Image) -> Admission:
    """The verdict that admits an image. Raises `NotAdmitted`, `NotSigned`, and what the upstream raises.

    A network error is an error, and never "unsigned". What is here was judged when it came.
    """
    if image.held:
        return Admission(IN_PLACE)
    try:
        admission = _admitted(run, image)
    except (NotAdmitted, NotSigned) as error:
        if not run.rehearsal:
            run.audit.refused(image, error.admission, str(error))
        raise
    if admission.verdict != NO_POLICY and not run.rehearsal:
        run.audit.admitted(image, admission)
    return admission


def _admitted(run: MirrorRun, image: Image) -> Admission:
    tag = image.upstream_reference if isinstance(image.upstream_reference, Tag) else None
    if tag is not None and is_companion_tag(tag) and (run.verification or has_min_age(run.entry)):
        repository = run.store.repository(image.local)
        return _verify_companion(run, image, image.subject or subject_in_store(tag, repository))
    verdict = judge_digest(run, image, image.digest, tag)
    if verdict is None:
        return Admission(NO_POLICY)
    admission = _admission(run, image, verdict)
    if not verdict.admits:
        if verdict.judged_by == BY_ONLY_SIGNED:
            raise NotSigned(f"onlySigned: {'; '.join(verdict.reasons)}", admission)
        _give_up_hidden(run, image)
        raise NotAdmitted(
            f"{run.upstream.name}: {image.upstream_name}: not admitted by {verdict.policy}: {verdict.summary}"
            f"; `mirrorflow verify PROFILE {image.upstream_name}` shows each signature",
            admission,
        )
    return admission


def _give_up_hidden(run: MirrorRun, image: Image) -> None:
    """`onFailure: delete`: what is hidden goes once the upstream has no good signature either."""
    policy = policy_of(run, image)
    if policy is None or run.rehearsal:
        return
    if policy.on_failure == "delete" and isinstance(image.reference, Tag):
        run.store.hidden(image.local).delete_tag(image.reference)


def _admission(run: MirrorRun, image: Image, verdict: Verdict) -> Admission:
    """Who signed, when, and which authority matched: for the task run, the report and the store."""
    from tasks.manifests.verdict_record import record_of, signed_by

    said = verdict.summary
    log.info("%s: %s", image.name, said)
    record = None
    if run.verification.record and verdict.admits:
        record = record_of(verdict, image.digest, source_name(run.entry, image.source))
    return Admission(said, signed_by(verdict), record, verdict.judged_by)


def judge_digest(
    run: MirrorRun, image: Image, digest: Digest, tag: str | None, *, thorough: bool = False
) -> Verdict | None:
    """What the policy of the image's repository says of a digest; None without a policy."""
    source = source_name(run.entry, image.source)
    policy = run.verification.policy_for(source, tag)
    if policy is None:
        return None
    from tasks.trust.judging import judge_image
    from tasks.trust.sources import UpstreamSource

    repository = policy.repository or image.source
    signatures = UpstreamSource(run.upstream, repository, run.lists.companion_tags(repository), run.lists)
    return judge_image(
        digest,
        image.media_type,
        signatures,
        policy,
        children=lambda each: _children(run, image, each),
        reference=f"{source}:{tag}" if tag else source,
        thorough=thorough,
    )


def _verify_companion(run: MirrorRun, image: Image, subject: Subject) -> Admission:
    """A companion is admitted with the image that it accompanies, by the rule of that image.

    An image with several names is in the mirror if one of them is admitted. The strictest rule says in which
    format a companion may come: its tag could hide anything.
    """
    source = source_name(run.entry, image.source)
    policies = [run.verification.policy_for(source, tag_in(each)) for each in subject.references]
    if None not in policies and not _is_admitted(run, image, subject):
        raise CompanionNotAdmitted(
            f"{run.upstream.name}: {image.upstream_name}: the image that it accompanies, {subject.digest}, "
            "is not admitted"
        )
    if (
        run.on_demand
        and has_min_age(run.entry)
        and not run.store.repository(image.local).has_blob(subject.digest)
    ):
        raise CompanionNotAdmitted(
            f"{run.upstream.name}: {image.upstream_name}: the image that it accompanies, {subject.digest}, "
            "is not here"
        )
    strict = has_min_age(run.entry) or any(each is not None and each.keeps_out for each in policies)
    manifest, store = _manifest(run, image, image.digest), not run.rehearsal
    if reason := why_left_out(run, image, manifest, strict=strict, store=store):
        raise CompanionNotAdmitted(f"{run.upstream.name}: {image.upstream_name}: {reason}")
    return Admission(f"companion of {subject.digest.short}")


def _is_admitted(run: MirrorRun, companion: Image, subject: Subject) -> bool:
    image = replace(companion, digest=subject.digest, media_type=subject.media_type)
    verdicts = (judge_digest(run, image, subject.digest, tag_in(each)) for each in subject.references)
    return any(verdict is None or verdict.admits for verdict in verdicts)


def _manifest(run: MirrorRun, image: Image, digest: Digest) -> Manifest:
    fetched = fetch(run, image, digest)
    return parse_manifest(fetched.body, fetched.media_type, same_kind=True)


def _children(run: MirrorRun, image: Image, index: Descriptor) -> Iterator[Descriptor]:
    """The manifests that come in with an index. All is read as for the copy: the two must never differ.

    Raises `ChildUnread` for an entry that is no manifest by its type, and may be one.
    """
    for child in wanted_children(_read(run, image, index), image.parts):
        if child.media_type in media_types.MANIFESTS:
            yield child
        elif not (child.is_foreign or is_surely_blob(child)):
            yield replace(child, media_type=_read_unknown(run, image, child).media_type)


def _read_unknown(run: MirrorRun, image: Image, child: Descriptor) -> Manifest:
    try:
        return _read(run, image, child)
    except (UpstreamNotFound, ContentError) as error:
        from tasks.trust.judging import ChildUnread

        raise ChildUnread(f"{child.digest.short}: it cannot be read as a manifest: {error}") from error


def _read(run: MirrorRun, image: Image, descriptor: Descriptor) -> Manifest:
    fetched = fetch(run, image, descriptor.digest, keep=True)
    return parsed(run, image, descriptor, fetched.body, fetched.media_type)
