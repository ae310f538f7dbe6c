"""Behind the client: the rest of the image that it began with, and then the tag."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.mirror_state.withheld_digests import forget_withheld
from registry_server.store.records import Origin, TagRecord
from tasks.manifests.up_to_date import is_manifest
from tasks.on_demand.work import Work, WorkStep, log
from tasks.pipeline import Batch
from tasks.run.values import Admission, Progress, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.routing import Candidate
    from tasks.run.values import Image


@dataclass(frozen=True, slots=True)
class Pending:
    """A tag that names an image of which not everything is here: clients get it by the receiver's word."""

    candidate: Candidate
    image: Image
    descriptor: Descriptor

    @property
    def record(self) -> TagRecord:
        """The tag as it will be."""
        found = self.descriptor
        image, entry = self.image, self.candidate.entry
        origin = Origin(entry.name, image.source, image.digest, image.form, on_demand=True)
        admission = self.image.admission or Admission("")
        return TagRecord(
            found.digest,
            found.media_type,
            found.size,
            0.0,
            origin,
            verdict=admission.verdict,
            judged_by=admission.judged_by,
        )


def complete_image(
    run: MirrorRun, image: Image, *, claimed: Callable[[set[Digest]], None], then: Callable[[], None]
) -> Work:
    """The steps of a poll for one image whose manifest is here.

    `claimed` is told which blobs are fetched, before they are; `then` is called when it is published.
    """
    batch = Batch(run)
    name = str(image.name)

    def verifying() -> None:
        # It was admitted before its manifest was stored (resolve.py); here that is only shown.
        admitted = Progress(image, admission=image.admission or Admission("admitted"))
        batch.record.advanced([admitted.passed(Step.VERIFIED)])

    def copying() -> None:
        if batch.record.progress[name].waits_for(Step.PUBLISHED):
            claimed({each.blob.digest for each in batch.lacking})  # what is not among them is stored
        with run.store.lease():
            batch.copy_blob()

    def publishing() -> None:
        waited = batch.record.progress[name].waits_for(Step.PUBLISHED)
        try:
            with run.store.lease():
                batch.publish_image()
        finally:
            if waited and batch.record.progress[name].step is Step.PUBLISHED:
                then()

    return Work(
        run,
        name,
        (
            WorkStep("verify_signature", verifying),
            WorkStep("convert_manifest", batch.convert_manifest),
            WorkStep("copy_blob", copying),
            WorkStep("publish_image", publishing),
        ),
    )


def publish_sparse(store: Store, pending: Pending) -> bool:
    """Set the tag of an index of which at least one image is whole; the rest is declared sparse.

    (image-spec image-index.md allows the absence.) Raises `StoreError`.
    """
    repository = store.repository(pending.image.local)
    record = pending.record
    present, sparse = _shape_of(repository, record)
    if present:
        store.sync()
        _put(repository, pending.image.reference, record, sparse)
        forget_withheld(store, pending.image.local, Tag(pending.image.reference))
    return present


def extend_tags(store: Store, local: RepositoryName, arrived: Digest) -> None:
    """Tags that had left `arrived` out have it now."""
    repository = store.repository(local)
    for tag, record in repository.tag_records().items():
        if arrived in record.sparse:
            present, sparse = _shape_of(repository, record)
            if present:
                _put(repository, tag, record, sparse)


def _put(repository: Repository, tag: str, record: TagRecord, sparse: Sequence[Digest]) -> None:
    repository.put_tag(Tag(tag), replace(record, pushed=time.time(), sparse=tuple(sparse)))


def _shape_of(repository: Repository, record: TagRecord) -> tuple[bool, list[Digest]]:
    """`shape`, of all that a tag stands on."""
    shapes = [shape(repository, root) for root in record.roots]
    sparse = (digest for _, lacking in shapes for digest in lacking)
    return all(present for present, _ in shapes), list(dict.fromkeys(sparse))


def shape(repository: Repository, digest: Digest) -> tuple[bool, list[Digest]]:
    """Whether anything below a manifest is here as a whole, and what is not."""
    try:
        descriptor, body = repository.read_manifest(digest)
        manifest = parse_manifest(body, descriptor.media_type)
    except NotFound:
        return False, [digest]
    if not manifest.is_index:
        return (False, [digest]) if repository.missing(manifest) else (True, [])
    present, sparse = not manifest.manifests, list[Digest]()
    for child in manifest.manifests:
        here, lacking = _child_shape(repository, child)
        present = present or here
        sparse += lacking
    return present, (sparse if present else [digest])


def _child_shape(repository: Repository, child: Descriptor) -> tuple[bool, list[Digest]]:
    if child.is_foreign:
        return False, []
    if child.media_type in media_types.MANIFESTS or is_manifest(repository, child.digest):
        return shape(repository, child.digest)
    # An entry of an index may be a blob (BuildKit's cache).
    return (True, []) if repository.has_blob(child.digest) else (False, [child.digest])


def quietly(work: Callable[[], object], what: str) -> None:
    """For what is done behind everybody's back: an error is logged, and mended by the next request."""
    try:
        work()
    except MirrorflowError as error:
        log.error("%s: %s", what, error)
