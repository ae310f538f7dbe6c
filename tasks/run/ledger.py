"""What has happened to each image of a run so far: the one place that all task runs write to.

Task runs carry groups, so the state of a Prefect task run cannot say which of its members passed. The ledger
can; a retry asks it which members still wait for the step, and the report reads it at the end.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tasks.run.values import Admission, Image, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.errors import MirrorflowError
    from registry_server.oci.reference import RepositoryName, Tag
    from tasks.companions.model import Followed
    from tasks.run.values import Findings, ImagePlan, SourceRepository
    from tasks.upstream.registry import Head

_BEFORE: Final = {
    Step.VERIFIED: Step.FOUND,
    Step.CONVERTED: Step.VERIFIED,
    Step.PUBLISHED: Step.CONVERTED,
}


@dataclass(slots=True)
class Progress:
    """Where one image stands. `skipped` is a reason to leave it out for good, which is not a failure.

    `admission` is what verification said of it, if it was asked.
    """

    image: Image
    step: Step = Step.FOUND
    failed_step: Step | None = None
    error: MirrorflowError | None = None
    skipped: str = ""
    admission: Admission = field(default_factory=lambda: Admission(""))
    companions: dict[str, Followed] = field(default_factory=dict)
    plan: ImagePlan | None = None
    claimed: tuple[Digest, ...] = ()
    started: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """A snapshot for progress bars: images and bytes. `planned_bytes` grows while manifests are read."""

    images: int
    published: int
    failed: int
    skipped: int
    unchanged: int
    planned_bytes: int
    moved_bytes: int


@dataclass
class Ledger:
    """Thread-safe. Images are keyed by their local name, which is what they compete for."""

    _progress: dict[str, Progress] = field(default_factory=dict)
    _findings: dict[str, Findings] = field(default_factory=dict)
    _search_errors: dict[str, tuple[SourceRepository, MirrorflowError]] = field(default_factory=dict)
    _heads: dict[str, Mapping[Tag | Digest, Head]] = field(default_factory=dict)
    _blob_errors: dict[tuple[Digest, str], MirrorflowError] = field(default_factory=dict)
    _moved: dict[Digest, int] = field(default_factory=dict)
    _claimed: dict[Digest, Descriptor] = field(default_factory=dict)
    _copied: set[Digest] = field(default_factory=set)
    _remarks: dict[str, None] = field(default_factory=dict)  # in order, each once
    _noted: dict[RepositoryName, dict[str, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def found(self, findings: Findings) -> None:
        """Record what filter_tags found; a retry of the same repository replaces the first answer."""
        with self._lock:
            self._findings[findings.source.name] = findings
            self._search_errors.pop(findings.source.name, None)
            for image in findings.changed:
                self._progress.setdefault(str(image.name), Progress(image))

    def unsearched(self, sources: Iterable[SourceRepository]) -> list[SourceRepository]:
        """Those that were not searched, or whose search has failures that may pass."""
        with self._lock:
            known = {name for name, findings in self._findings.items() if not findings.passing}
            return [source for source in sources if source.name not in known]

    def keep_heads(self, source: str, heads: Mapping[Tag | Digest, Head]) -> None:
        """For the retry of a search: what need not be asked again."""
        with self._lock:
            self._heads[source] = heads

    def take_heads(self, source: str) -> Mapping[Tag | Digest, Head]:
        with self._lock:
            return self._heads.pop(source, {})

    def changed(self) -> list[Image]:
        """Every image that filter_tags wants brought in, by source so that groups keep together."""
        with self._lock:
            images = [progress.image for progress in self._progress.values()]
        return sorted(images, key=lambda image: (image.source, str(image.name)))

    def search_failed(self, source: SourceRepository, error: MirrorflowError) -> None:
        with self._lock:
            self._search_errors[source.name] = (source, error)

    def search_errors(self) -> list[tuple[SourceRepository, MirrorflowError]]:
        with self._lock:
            return list(self._search_errors.values())

    def waiting(self, images: Iterable[Image], step: Step) -> list[Image]:
        """Those that passed the step before and neither passed this one nor were left out."""
        with self._lock:
            progress = [self._progress[str(image.name)] for image in images]
            waiting = [each for each in progress if each.step is _BEFORE[step] and not each.skipped]
            for each in waiting:
                each.started = each.started or time.monotonic()
            return [each.image for each in waiting]

    def passed(self, image: Image, step: Step) -> None:
        with self._lock:
            progress = self._progress[str(image.name)]
            progress.step, progress.error, progress.failed_step = step, None, None
            progress.seconds = time.monotonic() - (progress.started or time.monotonic())

    def failed(self, image: Image, step: Step, error: MirrorflowError) -> None:
        with self._lock:
            progress = self._progress[str(image.name)]
            progress.error, progress.failed_step = error, step

    def skip(self, image: Image, reason: str) -> None:
        with self._lock:
            self._progress[str(image.name)].skipped = reason

    def moved_on(self, image: Image) -> None:
        """The tag names something else than when it was found: from now on the image is that."""
        with self._lock:
            self._progress[str(image.name)].image = image
            findings = self._findings.get(image.source)
            if findings is not None:
                upstream = {**findings.upstream, image.name: image.digest}
                self._findings[image.source] = replace(findings, upstream=upstream)

    def admitted(self, image: Image, admission: Admission) -> None:
        """What verification said of an image."""
        with self._lock:
            self._progress[str(image.name)].admission = admission

    def admission_of(self, image: Image) -> Admission:
        with self._lock:
            return self._progress[str(image.name)].admission

    def followed(self, image: Image, found: Iterable[Followed]) -> None:
        """What came of companions of an image; a later word on one of them replaces the first."""
        with self._lock:
            self._progress[str(image.name)].companions.update((each.companion, each) for each in found)

    def companions_of(self, image: Image) -> list[Followed]:
        with self._lock:
            return list(self._progress[str(image.name)].companions.values())

    def forget_companions(self, image: Image, companions: Iterable[str]) -> None:
        """They are tried once more."""
        with self._lock:
            for companion in companions:
                self._progress[str(image.name)].companions.pop(companion, None)

    def remark(self, text: str) -> None:
        """What the reader of the report should know, and what is no failure: `Report.notes`. One sentence."""
        with self._lock:
            self._remarks.setdefault(text)

    def remarks(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._remarks)

    def note(self, local: RepositoryName, notes: Mapping[str, str]) -> None:
        """For the next poll: what it need not look at again (`PollRecord.companions`)."""
        with self._lock:
            self._noted.setdefault(local, {}).update(notes)

    def notes(self, local: RepositoryName) -> dict[str, str]:
        with self._lock:
            return dict(self._noted.get(local, {}))

    def plan(self, image: Image, plan: ImagePlan) -> None:
        with self._lock:
            self._progress[str(image.name)].plan = plan

    def plan_of(self, image: Image) -> ImagePlan | None:
        with self._lock:
            return self._progress[str(image.name)].plan

    def claim(self, image: Image, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        """The blobs that nobody in this run has claimed yet: each digest is fetched once a run."""
        with self._lock:
            new = [blob for blob in blobs if blob.digest not in self._claimed]
            self._claimed.update((blob.digest, blob) for blob in new)
            self._progress[str(image.name)].claimed = tuple(blob.digest for blob in new)
            return new

    def moved(self, digest: Digest, count: int) -> None:
        """`count` more bytes of this blob arrived (progress while it runs)."""
        with self._lock:
            self._moved[digest] = self._moved.get(digest, 0) + count

    def blob_failed(self, digest: Digest, source: str, error: MirrorflowError) -> None:
        """The upstream repository `source` did not give it; another one may."""
        with self._lock:
            self._blob_errors[digest, source] = error

    def blob_copied(self, digest: Digest, source: str) -> None:
        with self._lock:
            self._blob_errors.pop((digest, source), None)
            self._copied.add(digest)

    def blob_error(self, digest: Digest, source: str) -> MirrorflowError | None:
        with self._lock:
            return self._blob_errors.get((digest, source))

    def moved_for(self, progress: Progress) -> int:
        """Bytes that came over the network on behalf of this image."""
        with self._lock:
            return sum(self._moved.get(digest, 0) for digest in progress.claimed)

    def progress(self) -> list[Progress]:
        with self._lock:
            return list(self._progress.values())

    def findings(self) -> list[Findings]:
        with self._lock:
            return list(self._findings.values())

    def totals(self) -> Totals:
        with self._lock:
            progress = list(self._progress.values())
            return Totals(
                images=len(progress),
                published=sum(each.step is Step.PUBLISHED for each in progress),
                failed=sum(each.error is not None for each in progress),
                skipped=sum(bool(each.skipped) for each in progress),
                unchanged=sum(each.unchanged for each in self._findings.values()),
                planned_bytes=sum(self._planned(blob) for blob in self._claimed.values()),
                moved_bytes=sum(self._moved.values()),
            )

    def _planned(self, blob: Descriptor) -> int:
        """What a blob had to move: less than its size where an earlier run had left a part of it."""
        return self._moved.get(blob.digest, 0) if blob.digest in self._copied else blob.size
