"""Behind the client: which images are being completed, and which tags wait for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci import media_types
from registry_server.oci.errors import NotFound
from registry_server.oci.reference import Tag
from tasks.copy_blob import copy_all, failure_of
from tasks.on_demand.complete_image import Pending, complete_image, extend_tags, publish_sparse, quietly
from tasks.on_demand.limits.timed_cache import TimedCache
from tasks.on_demand.work import Work, WorkStep
from tasks.run.values import BlobCopy, Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.arrivals import Arrivals
    from tasks.on_demand.content_index import Parent
    from tasks.on_demand.routing import Candidate
    from tasks.on_demand.work import Executor

# A completion that ended without a result (its flow run crashed) does not block the next one for longer.
_SURELY_OVER = 600.0  # seconds


class BackgroundFetcher:
    """Thread-safe; everything here returns at once, and the work goes to the executor."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        run_for: Callable[[Candidate, Image], MirrorRun],
        arrivals: Arrivals,
        clock: Callable[[], float],
    ) -> None:
        self.on_published: Callable[[Candidate, Image], None] = lambda _candidate, _image: None
        self._store = store
        self._executor = executor
        self._run_for = run_for
        self._arrivals = arrivals
        self.pending: TimedCache[tuple[RepositoryName, Tag], Pending] = TimedCache(10_000, clock)
        self._completing: TimedCache[object, None] = TimedCache(100_000, clock)

    def begin(self, candidate: Candidate, image: Image, manifest: Manifest) -> None:
        """The rest of an image; of an index only where all platforms are wanted."""
        if not manifest.is_index or candidate.entry.on_demand_platforms == "all":
            self._complete(candidate, image, tuple(blob.digest for blob in manifest.blobs))
        else:
            self._settle(image.local)

    def resume(self, pending: Pending) -> None:
        """A tag that waits still: what was to be completed may have failed."""
        entry = pending.candidate.entry
        if pending.descriptor.media_type not in media_types.INDEXES or entry.on_demand_platforms == "all":
            self._complete(pending.candidate, pending.image)
        else:
            self._settle(pending.image.local)

    def copy(self, candidate: Candidate, lead: Parent, local: RepositoryName) -> None:
        """A blob that nobody has begun with, and then the rest of its image: it is here in part only."""
        media_type, parts = self._type_of(local, lead.parent), candidate.parts.of_all_platforms
        parent = Image(candidate.source, local, lead.parent, lead.parent, media_type, parts)
        run = self._run_for(candidate, parent)
        wanted = BlobCopy(lead.descriptor, parent)

        def copying() -> None:
            with self._store.lease():
                error = failure_of(copy_all(run, [wanted]))
            if error is not None:
                raise error
            self._settle(local, lead.descriptor.digest)

        label = f"{lead.descriptor.digest.short} for {parent.name}"
        self._executor.submit(Work(run, label, (WorkStep("copy_blob", copying),)))
        if parent.media_type not in media_types.INDEXES:
            self._complete(candidate, parent)

    def _type_of(self, local: RepositoryName, digest: Digest) -> str:
        try:
            return self._store.repository(local).find_manifest(digest).descriptor.media_type
        except NotFound:
            return ""

    def _complete(self, candidate: Candidate, image: Image, blobs: tuple[Digest, ...] = ()) -> None:
        """`blobs` will be fetched: a request for one of them waits until it begins."""
        key = (image.local, image.reference, image.digest)
        if self._completing.age(key) < _SURELY_OVER:
            return
        self._completing.put(key, None)
        run = self._run_for(candidate, image)
        expected = self._expect(image, blobs)

        def claimed(fetched: set[Digest]) -> None:
            for digest in expected.keys() - fetched:
                self._arrivals.copied(image.local, digest)

        def ended() -> None:
            self._completing.drop(key)
            for digest, arriving in expected.items():
                self._arrivals.given_up(image.local, digest, arriving)

        work = complete_image(run, image, claimed=claimed, then=lambda: self._completed(candidate, image))
        self._executor.submit(Work(run, work.label, _ending(work.steps, ended)))

    def _expect(self, image: Image, blobs: tuple[Digest, ...]) -> dict[Digest, Future[None]]:
        """Those that are not here and that nobody else expects already."""
        held = self._store.repository(image.local)
        found = {each: self._arrivals.expect(image.local, each) for each in blobs if not held.has_blob(each)}
        return {digest: arriving for digest, (arriving, new) in found.items() if new}

    def _completed(self, candidate: Candidate, image: Image) -> None:
        self._published(candidate, image)
        self._settle(image.local, image.digest)

    def _settle(self, local: RepositoryName, arrived: Digest | None = None) -> None:
        """Set the tags of indexes that have something whole to offer now."""
        for (name, _), pending in self.pending.items():
            if name == local and pending.descriptor.media_type in media_types.INDEXES:
                quietly(self._setter(pending), str(pending.image.name))
        if arrived is not None:
            quietly(lambda: extend_tags(self._store, local, arrived), str(local))

    def _setter(self, pending: Pending) -> Callable[[], None]:
        def set_tag() -> None:
            wants_all = pending.candidate.entry.on_demand_platforms == "all"
            if not wants_all and publish_sparse(self._store, pending):
                audit = self._run_for(pending.candidate, pending.image).audit
                audit.published(pending.image, pending.descriptor.digest)
                self._published(pending.candidate, pending.image)

        return set_tag

    def _published(self, candidate: Candidate, image: Image) -> None:
        if isinstance(image.reference, Tag):
            key = (image.local, image.reference)
            pending = self.pending.get(key)
            if pending is not None and pending.image.digest == image.digest:
                self.pending.drop(key)
        self.on_published(candidate, image)


def _ending(steps: tuple[WorkStep, ...], ended: Callable[[], None]) -> tuple[WorkStep, ...]:
    """The steps, with `ended` behind the last one, however it goes."""
    *first, last = steps

    def body() -> object:
        try:
            return last.body()
        finally:
            ended()

    return (*first, WorkStep(last.name, body))
