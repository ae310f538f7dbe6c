"""The DAG of a run: what is done when, for whichever engine carries the steps out.

    list_catalog -> for each repository: filter_tags -> verify_signature -> convert_manifest
                    -> copy_blob for blobs that no other chain fetches -> publish_image

A repository's chain begins as soon as the repository is searched. One in which nothing has changed is not
shown: a poll that finds nothing is one task run. A blob that several images share is fetched for the first of
them, and the others wait for that copy.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from tasks.run.grouping import BIG_BLOBS, blob_label, chains, label, label_of_repositories, packs, parts
from tasks.run.values import Page, Progress, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry_server.oci.digest import Digest
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.record import RunRecord
    from tasks.run.values import Catalog, Findings, Output, SourceRepository

log = logging.getLogger("mirrorflow.run")


class Handle(Protocol):
    """A step that was submitted."""

    def output(self) -> Output[Any]:
        """Its output, once it has ended. Does not raise."""
        ...


class Engine(Protocol):
    """Carries steps out. `inputs` may be handles of steps that have ended.

    `done` is called at the end, from any thread.
    """

    def submit(
        self,
        step: str,
        label: str,
        *inputs: Any,
        after: Sequence[Handle] = (),
        known: Output[Any] | None = None,
        done: Callable[[Handle], None],
    ) -> Handle:
        """With the entry's retries, and shown where the engine shows steps.

        `after` are steps that have led to this one. `known` is the output of the first try, where that has
        been made.
        """
        ...

    def look(self, step: str, *inputs: Any, done: Callable[[Handle], None]) -> Handle:
        """The first try of a step, which is not shown."""
        ...


@dataclass(slots=True)
class _Chain:
    """Images on their way from convert_manifest to publish_image."""

    converted: Handle
    images: tuple[Progress, ...]
    copies: tuple[Handle, ...]  # those that it needs
    open: set[Handle]  # those of them that have not ended


@dataclass
class Dag:
    """One run. `record` is written here alone."""

    run: MirrorRun
    engine: Engine
    record: RunRecord
    _ended: SimpleQueue[Handle] = field(default_factory=SimpleQueue)
    _then: dict[Handle, Callable[[Handle, Output[Any]], None]] = field(default_factory=dict)
    _copying: dict[Digest, Handle] = field(default_factory=dict)
    _running: set[Handle] = field(default_factory=set)  # copies
    _waiting: list[_Chain] = field(default_factory=list)
    _alone: int = BIG_BLOBS
    _problem: str = ""
    _searches: int = 0

    def mirror(self) -> str:
        """All of it. Why list_catalog does not know all repositories; "" when it does."""
        self._submit("list_catalog", self.run.entry.name, then=self._listed)
        while self._then:
            handle = self._ended.get()
            output = handle.output()
            self.record.take(output)
            self._then.pop(handle)(handle, output)
        return self._problem

    def _submit(
        self,
        step: str,
        name: str,
        *inputs: Any,
        then: Callable[[Handle, Output[Any]], None],
        after: Sequence[Handle] = (),
        known: Output[Any] | None = None,
    ) -> Handle:
        handle = self.engine.submit(step, name, *inputs, after=after, known=known, done=self._ended.put)
        self._then[handle] = then
        return handle

    def _listed(self, handle: Handle, output: Output[Catalog]) -> None:
        self._problem = output.value.problem
        groups = chains(output.value.repositories)
        if self.run.only:  # an item may mean a repository here or upstream: which of them, all searches tell
            groups = [output.value.repositories] if output.value.repositories else []
        self._searches = len(groups)
        for members in groups if not self.run.stop.is_set() else ():
            looked = self.engine.look("filter_tags", members, done=self._ended.put)
            self._then[looked] = partial(self._looked, handle, members)

    def _looked(
        self,
        listing: Handle,
        members: tuple[SourceRepository, ...],
        _handle: Handle,
        output: Output[list[Findings]],
    ) -> None:
        """A search that found something, or failed, is shown: there its retries are made."""
        if output.error is None and not any(each.changed for each in output.value):
            self.record.found(output.value)
            return
        if self.run.stop.is_set():
            return
        output.remarks, output.requests = (), {}  # they have been taken
        self._submit(
            "filter_tags",
            label_of_repositories(members),
            members,
            after=[listing],
            known=output,
            then=self._searched,
        )

    def _searched(self, handle: Handle, output: Output[list[Findings]]) -> None:
        found = output.value
        new = self.record.found(found)
        lists = {each.source.name: each.lists for each in found if each.lists is not None}
        for images in parts(new, of=self._searches):
            if self.run.stop.is_set():
                return
            sources = {each.image.source for each in images}
            page = Page(images, {name: each for name, each in lists.items() if name in sources})
            self._submit("verify_signature", label(images), page, after=[handle], then=self._verified)

    def _verified(self, handle: Handle, output: Output[Page]) -> None:
        images = self._advanced(output, Step.VERIFIED)
        if any(each.waits_for(Step.CONVERTED) for each in images) and not self.run.stop.is_set():
            self._submit("convert_manifest", label(images), handle, then=self._converted)

    def _converted(self, handle: Handle, output: Output[Page]) -> None:
        images = self._advanced(output, Step.CONVERTED)
        ready = [each for each in images if each.waits_for(Step.PUBLISHED)]
        if not ready or self.run.stop.is_set():
            return
        self._copy(handle, ready)
        needed = (self._copying[copy.blob.digest] for each in ready for copy in each.lacking)
        copies = tuple(dict.fromkeys(needed))
        self._waiting.append(_Chain(handle, images, copies, set(copies) & self._running))
        self._publish()

    def _copy(self, converted: Handle, ready: Sequence[Progress]) -> None:
        new = self.record.claim(copy for each in ready for copy in each.lacking)
        for copies in packs(new, alone=self._alone):
            self._alone -= len(copies) == 1
            copying = self._submit(
                "copy_blob", blob_label(copies), copies, after=[converted], then=self._copied
            )
            self._running.add(copying)
            self._copying.update((each.blob.digest, copying) for each in copies)

    def _copied(self, handle: Handle, output: Output[Any]) -> None:
        self.record.copied(output.value)
        self._running.discard(handle)
        for chain in self._waiting:
            chain.open.discard(handle)
        self._publish()

    def _publish(self) -> None:
        """The chains whose blobs have all come, or failed."""
        ready = [chain for chain in self._waiting if not chain.open]
        self._waiting = [chain for chain in self._waiting if chain.open]
        for chain in ready if not self.run.stop.is_set() else ():
            copies = list(chain.copies)
            self._submit("publish_image", label(chain.images), chain.converted, copies, then=self._published)

    def _published(self, _handle: Handle, output: Output[Page]) -> None:
        self._advanced(output, Step.PUBLISHED)

    def _advanced(self, output: Output[Page], step: Step) -> tuple[Progress, ...]:
        """Note how far the images got, and tell the log of each that failed."""
        self.record.advanced(output.value.images)
        for each in output.value.images:
            if each.error is not None and each.failed_step is step:
                log.error("%s: %s: %s", each.image.name, step, each.error)
        return output.value.images
