"""What upstream has under a tag or digest, whether the filters let it pass, and the manifest that is kept."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from profiles.matching import matches_selection, wanted_form
from profiles.tag_filter import choose_tags
from registry_server.oci.companion_tags import is_companion_tag, is_referrers_list, may_be_referrers_list
from registry_server.oci.conversion import may_change
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.errors import MirrorflowError, NotFound
from registry_server.oci.forms import KEPT, Form
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from tasks.context.cooldown import HeldBack, held_back, note_refused, settle, settle_gone
from tasks.filter_tags.referrer_lists import NO_IMAGE
from tasks.filter_tags.selection import describe
from tasks.manifests.manifest_tree import plan_image
from tasks.manifests.reading import held_body, parsed, with_type
from tasks.manifests.up_to_date import is_made_of
from tasks.on_demand.limits.breaker import NotAskedNow
from tasks.on_demand.limits.bulkhead import UpstreamBusy
from tasks.on_demand.limits.timed_cache import TimedCache
from tasks.run.errors import BlobNotCopied, NoPlatform, NotAdmitted, NotSigned, StillNotAdmitted
from tasks.run.values import Image, Subject
from tasks.upstream.errors import UpstreamDenied, UpstreamNotFound, UpstreamSchema1
from tasks.verify_signature import verify_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.records import TagRecord
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.content_index import ContentIndex
    from tasks.on_demand.limits.bulkhead import Bulkhead
    from tasks.on_demand.routing import Candidate
    from tasks.upstream.registry import Fetched

    RefusedImage = tuple[str, str, RepositoryName, Tag | Digest, Digest]


class NotTaken(NotFound):
    """Upstream has it, but the rule's filters leave it out."""


NOT_THERE = (UpstreamNotFound, UpstreamDenied, UpstreamSchema1, NotTaken, NotSigned)
# Answers, and nothing that a retry or a look at a failed step would mend.
NO_FAILURE = (*NOT_THERE, NotAskedNow, UpstreamBusy, StillNotAdmitted, HeldBack)
REFUSED = 60.0  # seconds for which a refused image is not judged again; a signature may come later


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a candidate has; `manifest` None: still what the store has."""

    candidate: Candidate
    image: Image
    manifest: Manifest | None
    here: Digest | None = None  # what is made of it, where the image has another form here

    @property
    def digest(self) -> Digest:
        """What the reference names here."""
        return self.here or self.image.digest


@dataclass(frozen=True, slots=True)
class ManifestResolver:
    """One question, put to the candidates in their order."""

    runs: Callable[[Candidate], MirrorRun]
    bulkhead: Bulkhead
    local: RepositoryName
    reference: Tag | Digest
    held: TagRecord | None = None
    descriptor: Descriptor | None = None  # the one that led to a digest
    subject: Subject | None = None  # of a companion's tag
    refused: TimedCache[RefusedImage, str] = field(default_factory=lambda: TimedCache(1))

    def ask(self, candidates: Sequence[Candidate]) -> Resolved:
        """The first candidate's that has it.

        Not there, or not for us: the next one is asked. Any other failure too, unless the store has the tag:
        then an older version of the right image is better than another registry's. Raises what was worst.
        """
        failures: list[MirrorflowError] = []
        for candidate in candidates:
            try:
                with self.bulkhead.asking(candidate.entry):
                    return self._ask(candidate)
            except NOT_THERE as error:
                if isinstance(error, UpstreamNotFound):
                    settle_gone(self.runs(candidate), candidate.source, self.local, self.reference)
                failures.append(error)
            except MirrorflowError as error:
                # What a policy refuses is not taken from somebody else without one.
                if self.held is not None or isinstance(error, NotAdmitted):
                    raise
                failures.insert(0, error)
        raise failures[0]

    def _ask(self, candidate: Candidate) -> Resolved:
        run = self.runs(candidate)
        seen = None
        if self.held is not None and isinstance(self.reference, Tag):
            head = run.upstream.head(candidate.source, self.reference)
            image = self._image(candidate, head.digest, head.media_type)
            if is_made_of(self.held, head.digest, _form_to_expect(candidate, image, self.held)):
                settle(run, self.local, self.reference)
                return Resolved(candidate, image, None)
            self._check_known(run, candidate, image)
            seen = head.digest
        self._check_newest(run, candidate)
        fetched = self._fetch(run, candidate, seen)
        image = self._image(candidate, fetched.digest, fetched.media_type)
        run.recent.keep(candidate.source, fetched)
        image = with_type(run, image)
        self._check_is_image(run, image, fetched)
        self._check_selection(run, candidate, image)
        if self.descriptor is None:  # else it belongs to a manifest that was admitted
            if fetched.digest != seen:  # else it was looked at before the manifest was asked for
                self._check_known(run, candidate, image)
            image = self._admit(run, image)
        named = self.descriptor or _unsized(image)
        return Resolved(candidate, image, parsed(run, image, named, fetched.body, fetched.media_type))

    def _fetch(self, run: MirrorRun, candidate: Candidate, seen: Digest | None) -> Fetched:
        """What the tag named a moment ago; what it names now, where that is not to be had by digest."""
        try:
            return run.upstream.manifest(candidate.source, seen or self.reference)
        except UpstreamNotFound:
            if seen is None:
                raise
            return run.upstream.manifest(candidate.source, self.reference)

    def _admit(self, run: MirrorRun, image: Image) -> Image:
        """Invariant 4: the verdict comes before anything is stored. Raises `NotAdmitted`, `UpstreamError`."""
        try:
            admission = verify_image(run, image)
        except NotAdmitted as error:
            self.refused.put(_key(run, image), str(error))
            note_refused(run, image, str(error))
            raise
        return replace(image, admission=admission)

    def _check_known(self, run: MirrorRun, candidate: Candidate, image: Image) -> None:
        """Pulls of what waits or was refused do not ask for its signatures each time.

        Raises `HeldBack`, `StillNotAdmitted`.
        """
        if reason := held_back(run, image, candidate.rules):
            raise HeldBack(f"{run.upstream.name}: {image.upstream_name}: {reason}")
        refused = self.refused.get(_key(run, image), younger_than=REFUSED)
        if refused is not None:
            raise StillNotAdmitted(refused)

    def _image(self, candidate: Candidate, digest: Digest, media_type: str) -> Image:
        # Of a child manifest everything is wanted: which children are is decided at their index.
        parts = candidate.parts.of_all_platforms if self.descriptor is not None else candidate.parts
        form = wanted_form(candidate.entry, candidate.rules, self.reference, parts)
        return Image(
            candidate.source,
            self.local,
            self.reference,
            digest,
            media_type,
            parts,
            form=form,
            subject=self.subject,
            looked=time.time(),
        )

    def _check_newest(self, run: MirrorRun, candidate: Candidate) -> None:
        """`newest` needs all tags. Raises `NotTaken`."""
        rules = [rule for rule in candidate.rules if rule is not None and rule.tags and rule.tags.newest]
        if not rules or len(rules) < len(candidate.rules) or self._follows():
            return
        tags = run.upstream.tags(candidate.source)
        chosen = [choose_tags(rule, tags, candidate.source) for rule in rules]
        if not any(self.reference in choice.kept for choice in chosen):
            reason = chosen[0].dropped.get(self.reference, "is not there")
            raise NotTaken(f"{candidate.source}:{self.reference} {reason}")

    def _check_is_image(self, run: MirrorRun, image: Image, fetched: Fetched) -> None:
        """A list of referrers is no image; the server lists them by the referrers API. Raises `NotTaken`."""
        if not isinstance(self.reference, Tag) or not may_be_referrers_list(self.reference):
            return
        manifest = parsed(run, image, _unsized(image), fetched.body, fetched.media_type)
        if is_referrers_list(self.reference, image.digest, manifest):
            raise NotTaken(
                f"{image.upstream_name} {NO_IMAGE}; ask for the referrers of what it is named after"
            )

    def _check_selection(self, run: MirrorRun, candidate: Candidate, image: Image) -> None:
        """`select` looks at the image itself. Raises `NotTaken`."""
        rules = [rule for rule in candidate.rules if rule is not None and rule.select]
        if not rules or len(rules) < len(candidate.rules) or self._follows():
            return
        document = describe(run, image)
        if not any(matches_selection(rule, document) for rule in rules):
            raise NotTaken(f"{image.upstream_name} is not selected by `select: {rules[0].select}`")

    def _follows(self) -> bool:
        """A part of an image, or what accompanies one: judged with that image."""
        return self.descriptor is not None or (
            isinstance(self.reference, Tag) and is_companion_tag(self.reference)
        )


def _form_to_expect(candidate: Candidate, image: Image, held: TagRecord) -> Form:
    """Which of several rules take a tag may depend on all tags, or on the image: then a poll knows better."""
    unsure = any(
        rule is not None and (rule.select or (rule.tags and rule.tags.newest)) for rule in candidate.rules
    )
    if unsure and len(candidate.rules) > 1:
        return held.origin.form if held.origin else KEPT
    return image.form


def _key(run: MirrorRun, image: Image) -> RefusedImage:
    return run.entry.name, image.source, image.local, image.reference, image.digest


def _unsized(image: Image) -> Descriptor:
    return Descriptor(image.media_type, image.digest, -1)


def put_in_form(run: MirrorRun, found: Resolved, families: ContentIndex) -> Descriptor:
    """Keep the manifest, and what is made of it; what the tag will name.

    The digest of a converted index is only known when its children are converted: then these come at once,
    their blobs do not. Raises `NotTaken`, and what `plan_image` raises.
    """
    image, manifest = found.image, found.manifest
    assert manifest is not None, "there is nothing to keep of what is here already"
    repository = run.store.repository(image.local)
    if not may_change(manifest, image.form):
        families.add(image.local, image.digest, manifest, found.candidate)
        return repository.put_manifest(manifest, image.digest)
    try:
        plan = plan_image(run, image)
    except NoPlatform as reason:
        raise NotTaken(f"{image.upstream_name} {reason}") from reason
    for descriptor in plan.manifests:
        body = held_body(repository, descriptor.digest)
        if body is None:
            raise BlobNotCopied(descriptor, None)
        child = parse_manifest(body, descriptor.media_type)
        repository.put_manifest(child, descriptor.digest)
        families.add(image.local, descriptor.digest, child, found.candidate)
    return plan.root
