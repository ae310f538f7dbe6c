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
    from registry_server.store.incoming_blob import IncomingBlob
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.live import Live
    from tasks.run.values import ImagePlan

    KnownErrors = Mapping[tuple[Digest, str], MirrorflowError]


@dataclass(slots=True)
class _Counted:
    """Counts every byte that arrives, so that progress moves while a big blob does."""

    incoming: IncomingBlob
    live: Live
    blob: Descriptor
    moved: int = 0

    @property
    def offset(self) -> int:
        return self.incoming.offset

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.incoming.write(data)
        self.moved += len(data)
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
    spent = {each.copy.key: each.moved for each in before}
    left = [copy for copy in copies if copy.key not in done]
    for copy, result in run.each(lambda copy: copy_one(run, copy), left):
        done[copy.key] = _outcome(run, copy, result, spent.get(copy.key, 0))
    return [done[copy.key] for copy in copies]


def _outcome(run: MirrorRun, copy: BlobCopy, result: int | MirrorflowError, spent: int) -> BlobOutcome:
    if isinstance(result, MirrorflowError):
        run.live.copy_failed(copy.blob.digest, result)
        return BlobOutcome(copy, spent, result)
    run.live.copied(copy.blob.digest)
    return BlobOutcome(copy, spent + result)


def failure_of(outcomes: Sequence[BlobOutcome]) -> MirrorflowError | None:
    """What failed of a group, in one error."""
    failures = {each.copy.blob.digest.short: each.error for each in outcomes if each.error is not None}
    return only_error(failures, of=len(outcomes)) if failures else None


def copy_one(run: MirrorRun, copy: BlobCopy) -> int:
    """Bring one blob into the repository of its image, or leave nothing of it that anybody could see.

    How many bytes came over the network. Raises `WrongContent`, `UpstreamError`, `StoreError`, `Stopped`;
    what had arrived stays for the next try.
    """
    repository = run.store.repository(copy.image.local)
    if repository.adopt_blob(copy.blob.digest):
        return 0
    if copy.blob.data is not None:  # image-spec descriptor.md: embedded content need not be fetched
        repository.put_blob(copy.blob, copy.blob.data)
        return 0
    with blamed(run, copy.image, copy.blob.digest):
        whole, moved = _receive(run, repository, copy)
        if not whole:
            _, more = _receive(run, repository, copy)
            moved += more
        return moved


def _receive(run: MirrorRun, repository: Repository, copy: BlobCopy) -> tuple[bool, int]:
    """Whether the blob is here, and how many bytes came.

    False: worth another try, because what an earlier run left may be what was wrong. It is gone by now.
    """
    with repository.receive_blob(copy.blob, cancelled=run.stop.is_set) as incoming:
        if incoming.complete:
            return True, 0
        resumed = incoming.offset > 0
        counted = _Counted(incoming, run.live, copy.blob)
        run.upstream.blob(copy.image.source, copy.blob, counted, foreign=copy.image.parts.foreign)
        try:
            incoming.commit()
        except DigestMismatch:
            if not resumed:
                raise
            return False, counted.moved
    return True, counted.moved


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
