"""What a run would do, without doing it: the same decisions, no task runs, nothing written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from profiles.lock_file import LockedImage
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import Manifest, total_size
from tasks.companions.fetching import with_companions
from tasks.filter_tags.changes import find_changes
from tasks.list_catalog import wanted_repositories
from tasks.manifests.manifest_tree import walk
from tasks.manifests.reading import fetch, held_body, parsed
from tasks.run.dropped_tags import DroppedTags
from tasks.run.errors import LeftOut, NotAdmitted, is_stop, schema1_reason
from tasks.run.values import ImagePlan
from tasks.stored.pruning import decide
from tasks.upstream.errors import UpstreamSchema1
from tasks.verify_signature import verify_image

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Findings, Image


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image that would be brought in. Bytes are of blobs: those to fetch, and those that are here.

    `change` is "add", "move", or "follow": the image is here, only companions are new. `companions` counts
    those that would come with it; 0 without `weigh`. `becomes` is the digest that the tag will have here,
    where the image is converted ("" otherwise, and without `weigh`).
    """

    image: str
    upstream: str
    digest: str
    change: str
    new_bytes: int
    held_bytes: int
    companions: int = 0
    becomes: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What separates one registry entry from its mirror. Falsy when there is nothing to do.

    `to` is where the images go. `prune` are tags here that a run removes, because the upstream deleted them.
    `refused` are images that a policy will not admit, with the reason; known with `weigh` alone, because it
    takes their signatures. `taken` are all images that are in place or would come, without companions, with
    the upstream's digests. `manifest_gets` are what a run would spend of an upstream's rate limit; `spent` is
    what planning cost.
    """

    registry: str
    images: tuple[PlannedImage, ...]
    unchanged: int
    left_out: Mapping[str, str]
    dropped: DroppedTags
    problems: Mapping[str, str]
    notes: tuple[str, ...]
    manifest_gets: int
    spent: Mapping[str, int]
    refused: Mapping[str, str] = field(default_factory=dict)
    prune: tuple[str, ...] = ()
    to: tuple[str, ...] = ("store",)
    taken: Mapping[str, LockedImage] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.images or self.prune)

    def to_json(self) -> dict[str, Any]:
        return {
            "registry": self.registry,
            "to": list(self.to),
            "add": [_row(image) for image in self.images if image.change == "add"],
            "move": [_row(image) for image in self.images if image.change == "move"],
            "follow": [_row(image) for image in self.images if image.change == "follow"],
            "prune": list(self.prune),
            "unchanged": self.unchanged,
            "leftOut": dict(self.left_out),
            "droppedTags": dict(self.dropped.counts),
            "droppedExamples": dict(self.dropped.names),
            "refused": dict(self.refused),
            "problems": dict(self.problems),
            "notes": list(self.notes),
            "newBytes": sum(image.new_bytes for image in self.images),
            "heldBytes": sum(image.held_bytes for image in self.images),
            "manifestGets": self.manifest_gets,
            "spent": dict(self.spent),
        }


def _row(image: PlannedImage) -> dict[str, Any]:
    return {
        "image": image.image,
        "upstream": image.upstream,
        "digest": image.digest,
        "newBytes": image.new_bytes,
        "heldBytes": image.held_bytes,
        "companions": image.companions,
        "becomes": image.becomes,
    }


@dataclass(slots=True)
class _Peeking:
    """Reads manifests without keeping them: from the store where it has them, else from the upstream."""

    run: MirrorRun
    image: Image
    gets: set[Digest]

    def read(self, descriptor: Descriptor) -> Manifest:
        self.run.check_stopped()
        repository = self.run.store.repository(self.image.local)
        body = held_body(repository, descriptor.digest)
        if body is not None:
            return parsed(self.run, self.image, descriptor, body, None)
        known = repository.pool_holds(descriptor.digest) or descriptor.digest in self.gets
        if not known and not self.run.recent.find(self.image.source, descriptor.digest):
            self.gets.add(descriptor.digest)
        fetched = fetch(self.run, self.image, descriptor.digest, keep=True)
        return parsed(self.run, self.image, descriptor, fetched.body, fetched.media_type)

    peek = read


@dataclass(slots=True)
class _Weighing:
    """Adds up what would be fetched; a digest that several images share counts for the first of them."""

    run: MirrorRun
    gets: set[Digest] = field(default_factory=set)
    claimed: set[Digest] = field(default_factory=set)

    def weigh(self, image: Image, plan: ImagePlan | None) -> PlannedImage:
        new = [blob for blob in plan.all_blobs if self._is_new(image, blob)] if plan else []
        self.claimed.update(blob.digest for blob in new)
        fetched = total_size(new)
        return PlannedImage(
            image=str(image.name),
            upstream=image.upstream_name,
            digest=str(image.digest),
            change="follow" if image.held else "move" if image.was else "add",
            new_bytes=fetched,
            held_bytes=total_size(plan.all_blobs) - fetched if plan else 0,
            companions=len(plan.company.plans) if plan and plan.company else 0,
            becomes=str(plan.root.digest) if plan and plan.renamed else "",
        )

    def _is_new(self, image: Image, blob: Descriptor) -> bool:
        if blob.digest in self.claimed or blob.data is not None:
            return False
        if not self.run.targets.has_store:
            return not self.run.targets.primary.holds(image.local, blob)
        return not self.run.store.repository(image.local).pool_holds(blob.digest)


def plan_entry(run: MirrorRun, *, weigh: bool = True) -> Plan:
    """Compare one registry entry with the store.

    With `weigh`, the manifests of changed images are read to know their bytes: on a metered upstream each is
    a pull. Without, one GET an image is assumed. A repository that fails is a problem, not the end.
    """
    findings, problems = _find(run)
    asked = run.upstream.requests().get("GET manifest", 0)  # a run would ask the same for `select`
    left_out = {str(name): reason for each in findings for name, reason in each.declined.items()}
    changed = sorted(
        (image for each in findings for image in each.changed), key=lambda image: str(image.name)
    )
    weighing = _Weighing(run)
    planned, refused, judging = [], {}, 0
    for image in changed:
        name = str(image.name)
        try:
            if weigh:
                judging += _judge(run, image)
            planned.append(weighing.weigh(image, _peek(run, image, weighing) if weigh else None))
        except UpstreamSchema1 as error:
            left_out[name] = schema1_reason(image, error)
        except LeftOut as reason:
            left_out[name] = str(reason)
        except NotAdmitted as reason:
            refused[name] = str(reason)
        except MirrorflowError as error:
            if is_stop(error):
                raise
            problems[name] = str(error)
    pruning = decide(run.store, run.entry)
    gone = {name for each in findings for name in each.gone or ()}
    return Plan(
        registry=run.entry.name,
        images=tuple(planned),
        unchanged=sum(each.unchanged for each in findings),
        left_out=left_out,
        dropped=DroppedTags.sum(each.dropped for each in findings),
        problems=problems,
        notes=(*run.live.take_remarks(), *pruning.notes, *(note for each in findings for note in each.notes)),
        manifest_gets=asked
        + judging
        + (len(weighing.gets) if weigh else len({image.digest for image in changed})),
        spent=run.upstream.requests(),
        refused=refused,
        prune=tuple(str(each.name) for each in pruning.doomed if each.name in gone),
        to=run.entry.to,
        taken=_taken(run, findings, {*left_out, *refused, *problems}),
    )


def _taken(run: MirrorRun, findings: Iterable[Findings], without: Container[str]) -> dict[str, LockedImage]:
    return {
        str(name): LockedImage(run.entry.name, each.source.name, each.upstream_reference(name), digest)
        for each in findings
        for name, digest in each.upstream.items()
        if str(name) not in without and not is_companion_tag(str(name.reference))
    }


def _judge(run: MirrorRun, image: Image) -> int:
    """As a run would, before anything of the image is read; how many manifests that took.

    Raises `NotAdmitted`, `LeftOut`, `UpstreamError`.
    """
    before = run.upstream.requests().get("GET manifest", 0)
    if run.verification and not image.held:
        verify_image(replace(run, rehearsal=True), image)
    return run.upstream.requests().get("GET manifest", 0) - before


def _peek(run: MirrorRun, image: Image, weighing: _Weighing) -> ImagePlan:
    peeked = ImagePlan(image, (), ()) if image.held else walk(run, image, _Peeking(run, image, weighing.gets))
    return with_companions(run, image, peeked, lambda each: _Peeking(run, each, weighing.gets))


def _find(run: MirrorRun) -> tuple[list[Findings], dict[str, str]]:
    catalog = wanted_repositories(run)
    problems = {run.entry.name: catalog.problem} if catalog.problem else {}
    findings = []
    for source in catalog.repositories:
        try:
            found = find_changes(run, source)
        except MirrorflowError as error:
            if is_stop(error):
                raise
            problems[source.name] = str(error)
        else:
            findings.append(found)
            problems |= {str(name): reason for name, reason in found.problems.items()}
            problems |= {source.name: found.companions} if found.companions else {}
    return findings, problems
