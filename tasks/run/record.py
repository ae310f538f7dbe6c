"""What the steps of a run answered, folded into one: what progress bars, report and poll records read.

The flow alone writes to it, in one thread. Steps never see it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tasks.run.values import Progress, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName
    from tasks.run.values import BlobCopy, BlobOutcome, Findings, Output


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


@dataclass(slots=True)
class RunRecord:
    """Images are keyed by their local name, which is what they compete for."""

    findings: dict[str, Findings] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    blobs: dict[tuple[Digest, str], BlobOutcome] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    budget: str = ""
    _claimed: dict[Digest, Descriptor] = field(default_factory=dict)

    def take(self, output: Output[Any]) -> None:
        """What goes with every answer of a step, whatever the step."""
        self.remarks.update(dict.fromkeys(output.remarks))
        self.requests.update(output.requests)
        self.budget = output.budget or self.budget

    def found(self, findings: Iterable[Findings]) -> list[Progress]:
        """Note what filter_tags found; the images that it found first, where they begin."""
        new = []
        for each in findings:
            self.findings[each.source.name] = replace(each, heads={})
            for image in each.changed:
                if str(image.name) not in self.progress:
                    self.progress[str(image.name)] = Progress(image)
                    new.append(self.progress[str(image.name)])
        return new

    def advanced(self, progress: Iterable[Progress]) -> None:
        """Note how far images got. A tag that moved on since it was found counts as what it names now."""
        for each in progress:
            self.progress[str(each.image.name)] = each
            findings = self.findings.get(each.image.source)
            if findings is not None and findings.upstream.get(each.image.name) != each.image.digest:
                upstream = {**findings.upstream, each.image.name: each.image.digest}
                self.findings[each.image.source] = replace(findings, upstream=upstream)

    def claim(self, copies: Iterable[BlobCopy]) -> list[BlobCopy]:
        """Those of blobs that were not claimed yet: each digest is fetched once a run."""
        new = []
        for each in copies:
            if each.blob.digest not in self._claimed:
                self._claimed[each.blob.digest] = each.blob
                new.append(each)
        return new

    def copied(self, outcomes: Iterable[BlobOutcome]) -> None:
        self.blobs.update((each.copy.key, each) for each in outcomes)

    def moved_for(self) -> Counter[str]:
        """Bytes that came over the network on behalf of each image, by its name here."""
        moved = Counter({name: each.moved for name, each in self.progress.items()})
        for outcome in self.blobs.values():
            moved[str(outcome.copy.image.name)] += outcome.moved
        return moved

    def searched(self) -> list[Findings]:
        """Without the repositories whose search failed."""
        return [each for each in self.findings.values() if each.error is None]

    def polled(self) -> set[RepositoryName]:
        """The repositories here whose upstream was searched."""
        return {target.local for findings in self.searched() for target in findings.source.targets}

    def noted(self) -> dict[RepositoryName, dict[str, str]]:
        """For the next poll, by repository here: what it need not look at again."""
        found: defaultdict[RepositoryName, dict[str, str]] = defaultdict(dict)
        for findings in self.findings.values():
            for local, notes in findings.noted.items():
                found[local].update(notes)
        for progress in self.progress.values():
            found[progress.image.local].update(progress.noted)
        return found

    def totals(self, moving: int = 0) -> Totals:
        """`moving`: bytes that arrived in this process so far, of blobs that are not copied yet too.

        May be called by another thread than the one that writes.
        """
        progress, outcomes = list(self.progress.values()), list(self.blobs.values())
        copied = {each.copy.blob.digest: each.moved for each in outcomes if each.error is None}
        planned = [copied.get(blob.digest, blob.size) for blob in list(self._claimed.values())]
        return Totals(
            images=len(progress),
            published=sum(each.step is Step.PUBLISHED for each in progress),
            failed=sum(each.error is not None for each in progress),
            skipped=sum(bool(each.skipped) for each in progress),
            unchanged=sum(each.unchanged for each in list(self.findings.values())),
            planned_bytes=sum(planned),
            moved_bytes=max(moving, sum(each.moved for each in outcomes)),
        )
