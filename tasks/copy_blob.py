"""Moving blobs: from the pool if they are there, else from the upstream, from where they broke off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.oci.errors import DigestMismatch, MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.store.errors import StoreError
from tasks.manifests.reading import blamed, held_body
from tasks.run.errors import BlobNotCopied, is_stop, only_error
from tasks.run.values import BlobCopy, BlobOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository
    from registry_server.store.spool.incoming_blob import IncomingBlob
    from tasks.context.mirror_run import Live, MirrorRun
    from tasks.run.values import ImagePlan

    KnownErrors = Mapping[tuple[Digest, str], MirrorflowError]


@dataclass(slots=True)
class Tally:
    """Bytes that came over the network, also of a transfer that failed."""

    moved: int = 0


@dataclass(slots=True)
class _Counted:
    """Counts every byte that arrives, so that progress moves while a big blob does."""

    incoming: IncomingBlob
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
    """What has to be fetched for an image: all that its plan needs and the store does not have."""
    repository = run.store.repository(plan.image.local)
    return tuple(BlobCopy(blob, plan.image) for blob in plan.all_blobs if not _is_held(repository, blob))


def _is_held(repository: Repository, blob: Descriptor) -> bool:
    """What the store has against it is told where the blob is copied, and not to the whole run."""
    try:
        return repository.adopt_blob(blob.digest)
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

    How many bytes came over the network, with those of earlier tries in `tally`; what had arrived stays for
    the next try. Raises `WrongContent`, `UpstreamError`, `StoreError`, `Stopped`.
    """
    repository, tally = run.store.repository(copy.image.local), tally or Tally()
    if repository.adopt_blob(copy.blob.digest):
        return tally.moved
    if copy.blob.data is not None:  # image-spec descriptor.md: embedded content need not be fetched
        repository.put_blob(copy.blob, copy.blob.data)
        return tally.moved
    with blamed(run, copy.image, copy.blob.digest):
        if not _receive(run, repository, copy, tally):
            _receive(run, repository, copy, tally)
        return tally.moved


def _receive(run: MirrorRun, repository: Repository, copy: BlobCopy, tally: Tally) -> bool:
    """Whether the blob is here.

    False: worth another try, because what an earlier run left may be what was wrong. It is gone by now.
    """
    with repository.receive_blob(copy.blob, cancelled=run.stop.is_set) as incoming:
        if incoming.complete:
            return True
        resumed = incoming.offset > 0
        counted = _Counted(incoming, run.live, copy.blob, tally)
        run.upstream.blob(copy.image.source, copy.blob, counted, foreign=copy.image.parts.foreign)
        try:
            incoming.commit()
        except DigestMismatch:
            if not resumed:
                raise
            return False
    return True


def ensure_blob(run: MirrorRun, repository: Repository, copy: BlobCopy, known: KnownErrors) -> int:
    """A blob is fetched once a run, for one of its images; the others find it in the pool.

    Unless that failed for a repository that is sick, while this image's would give it; or it went into the
    pool of another subpath, which is a storage root of its own. How many bytes came; `known` are the errors
    of copy_blob. Raises `BlobNotCopied`.
    """
    if repository.adopt_blob(copy.blob.digest):
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


def put_manifests(repository: Repository, manifests: Iterable[Descriptor]) -> None:
    """Those whose bodies are in the pool, in this order. Raises `BlobNotCopied`, `StoreError`."""
    for descriptor in manifests:
        body = held_body(repository, descriptor.digest)
        if body is None:
            raise BlobNotCopied(descriptor, None)
        repository.put_manifest(parse_manifest(body, descriptor.media_type), descriptor.digest)
