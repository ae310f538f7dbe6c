"""Moving blobs: from where they are already, else from the upstream, from where they broke off."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from registry_server.store.errors import StoreError
from tasks.manifests.reading import blamed
from tasks.run.errors import BlobNotCopied, is_stop, only_error
from tasks.run.values import BlobCopy, BlobOutcome

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName
    from tasks.context.mirror_run import Live, MirrorRun
    from tasks.run.values import ImagePlan
    from tasks.upstream.blob import BlobSink

    KnownErrors = Mapping[tuple[Digest, str], MirrorflowError]


@dataclass(slots=True)
class Tally:
    """Bytes that came over the network, also of a transfer that failed."""

    moved: int = 0


@dataclass(slots=True)
class _Counted:
    """Counts every byte that arrives, so that progress moves while a big blob does."""

    incoming: BlobSink
    live: Live
    blob: Descriptor
    tally: Tally

    @property
    def offset(self) -> int:
        return self.incoming.offset

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.incoming.write(data)
        self.tally.moved += len(data)
        self.live.moved(self.blob.digest, len(data))

    def restart(self) -> None:
        self.incoming.restart()


def lacking_blobs(run: MirrorRun, plan: ImagePlan) -> tuple[BlobCopy, ...]:
    """What has to be brought for an image: all that its plan needs and one of the destinations lacks."""
    local = plan.image.local
    return tuple(BlobCopy(blob, plan.image) for blob in plan.all_blobs if not _is_held(run, local, blob))


def _is_held(run: MirrorRun, local: RepositoryName, blob: Descriptor) -> bool:
    """What the store has against it is told where the blob is copied, and not to the whole run."""
    try:
        return run.targets.holds(local, blob)
    except StoreError:
        return False


def copy_all(
    run: MirrorRun, copies: Sequence[BlobCopy], before: Sequence[BlobOutcome] = ()
) -> list[BlobOutcome]:
    """Copy on the transfer threads; what is here already costs a look. All are tried.

    `before`: what came of the last try. What was copied then is not copied again.
    """
    done = {each.copy.key: each for each in before if each.error is None}
    left = [copy for copy in copies if copy.key not in done]
    tallies = {copy.key: Tally() for copy in left}
    for each in before:
        tallies.get(each.copy.key, Tally()).moved = each.moved
    for copy, result in run.each(lambda copy: copy_one(run, copy, tallies[copy.key]), left):
        error = result if isinstance(result, MirrorflowError) else None
        done[copy.key] = _outcome(run, copy, tallies[copy.key], error)
    return [done[copy.key] for copy in copies]


def _outcome(run: MirrorRun, copy: BlobCopy, tally: Tally, error: MirrorflowError | None) -> BlobOutcome:
    if error is not None:
        run.live.copy_failed(copy.blob.digest, error)
    else:
        run.live.copied(copy.blob.digest)
    return BlobOutcome(copy, tally.moved, error)


def failure_of(outcomes: Sequence[BlobOutcome]) -> MirrorflowError | None:
    """What failed of a group, in one error."""
    failures = {each.copy.blob.digest.short: each.error for each in outcomes if each.error is not None}
    return only_error(failures, of=len(outcomes)) if failures else None


def copy_one(run: MirrorRun, copy: BlobCopy, tally: Tally | None = None) -> int:
    """Bring one blob into the repository of its image, or leave nothing of it that anybody could see.

    How many bytes came from the upstream, with those of earlier tries in `tally`; what had arrived stays for
    the next try. Raises `WrongContent`, `UpstreamError`, `StoreError`, `DestinationFailed`, `Stopped`.
    """
    tally = tally or Tally()
    with blamed(run, copy.image, copy.blob.digest):
        run.targets.bring(copy.image.local, copy.blob, functools.partial(_download, run, copy, tally))
    return tally.moved


def _download(run: MirrorRun, copy: BlobCopy, tally: Tally, sink: BlobSink) -> None:
    counted = _Counted(sink, run.live, copy.blob, tally)
    run.upstream.blob(copy.image.source, copy.blob, counted, foreign=copy.image.parts.foreign)


def ensure_blob(run: MirrorRun, copy: BlobCopy, known: KnownErrors) -> int:
    """A blob is fetched once a run, for one of its images; the others find it in the pool, or mount it.

    Unless that failed for a repository that is sick, while this image's would give it; or it went into the
    pool of another subpath, which is a storage root of its own. How many bytes came; `known` are the errors
    of copy_blob. Raises `BlobNotCopied`.
    """
    if run.targets.holds(copy.image.local, copy.blob):
        return 0
    if cause := known.get(copy.key):
        raise BlobNotCopied(copy.blob, cause)
    try:
        return copy_one(run, copy)
    except MirrorflowError as error:
        if is_stop(error):
            raise
        run.live.copy_failed(copy.blob.digest, error)
        raise BlobNotCopied(copy.blob, error, final=False) from error


def put_manifests(
    run: MirrorRun,
    local: RepositoryName,
    manifests: Iterable[Descriptor],
    tagged: Digest | None = None,
    partial: Container[Digest] = (),
    *,
    spare: Container[Digest] = (),
) -> None:
    """Those whose bodies are in the pool, in this order.

    `tagged`: a tag follows for this one. `partial`, `spare`: see `Targets.put_manifest`.
    Raises `BlobNotCopied`, `StoreError`, `DestinationFailed`.
    """
    for descriptor in manifests:
        manifest, digest = read_held(run, local, descriptor), descriptor.digest
        run.targets.put_manifest(
            local,
            manifest,
            digest,
            tag_follows=digest == tagged,
            partial=digest in partial,
            spare=digest in spare,
        )


def read_held(run: MirrorRun, local: RepositoryName, descriptor: Descriptor) -> Manifest:
    """A manifest whose body is in the pool. Raises `BlobNotCopied`."""
    body = run.store.repository(local).staged(descriptor.digest, at_most=MAX_MANIFEST_BYTES)
    if body is None:
        raise BlobNotCopied(descriptor, None)
    return parse_manifest(body, descriptor.media_type)
