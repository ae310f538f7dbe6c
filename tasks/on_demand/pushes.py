"""What upstream says was pushed is synced at once: by the steps of a poll, for one tag of one repository.

The word of a notification is only ever a hint to look: what is there, and whether it may come in, is asked of
the upstream that the profile names, and of its rules.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from profiles.matching import mappings
from profiles.model.content_rule import ContentRule
from profiles.tag_filter import local_tag, why_not_taken
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import TooManyPushes
from tasks.on_demand.eviction import is_polled
from tasks.on_demand.routing import Candidate, upstream_names
from tasks.on_demand.work import Work, WorkStep, log
from tasks.pipeline import Batch
from tasks.run.values import SourceRepository, Step, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiles.model.registry_entry import RegistryEntry
    from profiles.model.sync import Sync
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.answers import Push
    from tasks.on_demand.context import OnDemandContext
    from tasks.run.values import Image

_MOST: Final = 1000  # tags that are being synced; who notifies of more has to say it again
_SURELY_OVER: Final = 3600.0  # seconds after which a sync that was cut off does not stand in the way


@dataclass(frozen=True, slots=True)
class PushedTag:
    """One tag of one upstream repository, with every place that the rules want it in."""

    entry: RegistryEntry
    source: SourceRepository
    tag: Tag

    @property
    def key(self) -> tuple[str, str, Tag]:
        return self.entry.name, self.source.name, self.tag

    @property
    def names(self) -> frozenset[str]:
        return frozenset(
            f"{target.local}:{local_tag(target.rule, self.tag)}" for target in self.source.targets
        )


@dataclass(slots=True)
class _State:
    """`again`: it was pushed once more, since we asked what is there."""

    since: float
    again: bool = False


class PushedTags:
    """Thread-safe; returns at once, the work goes to the executor."""

    def __init__(self, context: OnDemandContext, synced: Callable[[RepositoryName, Tag], None]) -> None:
        """`synced` is told of each tag that is in place as the upstream has it."""
        self._context = context
        self._synced = synced
        self._states: dict[object, _State] = {}
        self._lock = threading.Lock()

    def take(self, push: Push) -> int:
        """How many syncs come of it; 0: no rule takes it. Raises `TooManyPushes`."""
        wishes = tuple(wishes_of(self._context.profile.sync, push))
        for wish in wishes:
            if self._is_new(wish):
                self._submit(wish)
        return len(wishes)

    def follow(self, candidate: Candidate, image: Image) -> None:
        """Bring what accompanies an image that came on demand under a policy, its signatures first of all.

        When the policy changes, or the upstream is gone, the image is judged by them.
        """
        if not isinstance(image.reference, Tag) or is_companion_tag(image.reference):
            return
        if image.admission is None or not image.admission.judged_by:
            return
        wanted = _targets(candidate.entry, image.source, image.reference)
        targets = tuple(target for target in wanted if target.local == image.local)
        wish = PushedTag(candidate.entry, SourceRepository(image.source, targets), image.reference)
        try:
            if targets and self._is_new(wish):
                self._submit(wish)
        except TooManyPushes:
            log.warning("%s: its signatures are brought when a client asks for them", image.name)

    def _is_new(self, wish: PushedTag) -> bool:
        """Of equal wishes one is done, and once more if another one came meanwhile."""
        now = self._context.clock()
        with self._lock:
            state = self._states.get(wish.key)
            if state is not None and now - state.since < _SURELY_OVER:
                state.again = True
                return False
            if len(self._states) >= _MOST:
                raise TooManyPushes(f"{_MOST:,} tags are being synced already: notify again in a while")
            self._states[wish.key] = _State(now)
            return True

    def _submit(self, wish: PushedTag) -> None:
        try:
            run = self._run_for(wish)
        except BaseException:
            self._over(wish)
            raise
        label = f"{wish.source.name}:{wish.tag}"
        self._context.executor.submit(Work(run, label, tuple(self._steps(run, wish))))

    def _run_for(self, wish: PushedTag) -> MirrorRun:
        run = self._context.run_of(Candidate(wish.entry, wish.source.name, ()))
        sync = self._context.profile.sync
        polled = any(is_polled(sync, target.local, wish.tag) for target in wish.source.targets)
        return replace(run, only=wish.names, on_demand=not polled)

    def _steps(self, run: MirrorRun, wish: PushedTag) -> Iterator[WorkStep]:
        """Those of a poll."""
        batch = Batch(run)

        def search() -> None:
            with self._lock:
                if state := self._states.get(wish.key):
                    state.again = False  # what was pushed until now is what is looked at
            batch.filter_tags([wish.source])

        def copying() -> None:
            with run.store.lease():
                batch.copy_blob()

        def publishing() -> None:
            with run.store.lease():
                batch.publish_image()

        yield WorkStep("filter_tags", search)
        yield WorkStep("verify_signature", batch.verify_signature)
        yield WorkStep("convert_manifest", batch.convert_manifest)
        yield WorkStep("copy_blob", copying)
        yield WorkStep("publish_image", lambda: self._ending(wish, batch, publishing))

    def _ending(self, wish: PushedTag, batch: Batch, publishing: Callable[[], None]) -> None:
        try:
            publishing()
            for target in wish.source.targets:
                if _is_settled(batch, f"{target.local}:{local_tag(target.rule, wish.tag)}"):
                    self._synced(target.local, wish.tag)
        finally:
            if self._over(wish):
                self._submit(wish)

    def _over(self, wish: PushedTag) -> bool:
        """Whether it has to be done once more."""
        with self._lock:
            state = self._states.get(wish.key)
            if state is not None and state.again:
                state.again, state.since = False, self._context.clock()
                return True
            self._states.pop(wish.key, None)
            return False


def _is_settled(batch: Batch, name: str) -> bool:
    """Whether the upstream told what the tag names, and that is here, or left out for good.

    A step goes on although the one before it failed: an image may not have reached publish_image.
    """
    found = batch.record.findings.values()
    if not found or any(each.error is not None or each.problems for each in found):
        return False
    progress = batch.record.progress.get(name)
    return progress is None or progress.step is Step.PUBLISHED or bool(progress.skipped)


def wishes_of(sync: Sync, push: Push) -> Iterator[PushedTag]:
    """What the rules make of a push, in the profile's order."""
    for entry in sync.registries if sync.enable else ():
        if push.registry and entry.name != push.registry:
            continue
        if push.on_hub and not any(url.is_docker_hub for url in entry.urls):
            continue
        for name in upstream_names(entry, push.repository):
            targets = tuple(_targets(entry, name, push.tag))
            if targets:
                yield PushedTag(entry, SourceRepository(name, targets), push.tag)
                break


def _targets(entry: RegistryEntry, name: str, tag: Tag) -> Iterator[Target]:
    if not entry.content:
        if entry.on_demand:
            everything = ContentRule.model_validate({"prefix": "**"})
            try:
                yield Target(everything, RepositoryName(name))
            except InvalidName:
                return
        return
    for rule, local in mappings(entry, name):
        if is_companion_tag(tag) or not why_not_taken(rule, name, tag):
            yield Target(rule, local)
