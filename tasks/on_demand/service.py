"""Answering misses: what is fetched for a client now, and what is brought in behind it.

Everything is coalesced: of equal questions one is sent to the upstream, and all callers get its answer. A
client that goes away cancels nothing.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from tasks.companions.admission import subject_in_store
from tasks.on_demand.answers import (
    Answer,
    Local,
    Miss,
    Place,
    Refusal,
    TagPage,
    TheBlob,
    TheManifest,
    TheRepository,
    not_taken,
    refusal,
    still_busy,
)
from tasks.on_demand.complete_image import Pending
from tasks.on_demand.content_index import led
from tasks.on_demand.context import OnDemandContext, revalidation_seconds
from tasks.on_demand.early_refusal import early_refusal
from tasks.on_demand.limits.bulkhead import NotChecked, in_time
from tasks.on_demand.limits.timed_cache import TimedCache
from tasks.on_demand.pushes import PushedTags
from tasks.on_demand.referrers import ReferrerFetcher
from tasks.on_demand.resolve import NO_FAILURE, ManifestResolver, Resolved, put_in_form
from tasks.on_demand.routing import Candidate, Route, candidates, resolve, resolve_entry, route_of
from tasks.on_demand.tag_lists import TagLists
from tasks.stored.policy_sweep import Swept, sweep_repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.store import Store
    from tasks.on_demand.answers import Push
    from tasks.on_demand.content_index import Parent
    from tasks.on_demand.resolve import RefusedImage
    from tasks.on_demand.work import Executor
    from tasks.run.values import Subject

NEGATIVE = 5.0  # seconds that "not there" is remembered
NOT_OURS = 10.0  # seconds that the server need not ask again about what no entry takes


class OnDemand:
    """Decides how to answer each miss. Thread-safe; `answer` blocks for as long as a client may wait."""

    def __init__(
        self,
        profile: Profile,
        store: Store,
        executor: Executor,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context = OnDemandContext(profile, store, executor, clock)
        self._store = store
        self._checked: TimedCache[tuple[RepositoryName, Tag], None] = TimedCache(100_000, clock)
        self._absent: TimedCache[Miss, Refusal] = TimedCache(10_000, clock)
        self._refused: TimedCache[RefusedImage, str] = TimedCache(10_000, clock)
        self._referring = ReferrerFetcher(context, self._subject)
        self._tag_lists = TagLists(context)
        self._pushes = PushedTags(context, self._synced)
        context.finishing.on_published = self._pushes.follow
        self._sweeping = threading.Lock()

    @property
    def profile(self) -> Profile:
        """The one that it goes by."""
        return self._context.profile

    def replace_profile(self, profile: Profile) -> None:
        """From now on by another profile."""
        self._context.replace_profile(profile)
        self._absent = TimedCache(10_000, self._context.clock)
        self._refused = TimedCache(10_000, self._context.clock)
        self._tag_lists.forget()

    def stop(self) -> None:
        """Ask all transfers to end; what has arrived is resumed the next time."""
        self._context.stop()

    def close(self) -> None:
        """Stop, and wait for the end."""
        self._context.close()

    def answer(self, miss: Miss | TagPage, wait_seconds: float) -> Answer:
        """What to tell the client, within `wait_seconds`; sooner where the store has an answer."""
        try:
            found = candidates(self._context.profile.sync, miss.repository)
            if not found:
                return Local(NOT_OURS)
            if isinstance(miss, TagPage):
                return self._tag_lists.answer(miss, found, wait_seconds)
            return self._one(miss, found, wait_seconds)
        except TimeoutError:
            return still_busy(miss, wait_seconds)
        except MirrorflowError as error:
            answer = refusal(miss, error)
            if answer.status in (403, 404) and isinstance(miss, Miss):
                self._absent.put(miss, answer)
            return answer

    def refusal(self, miss: Miss | TagPage) -> Refusal | None:
        """What `answer` would say, if that is found without waiting; many may ask at once."""
        absent = isinstance(miss, Miss) and self._absent.get(miss, younger_than=NEGATIVE)
        return None if absent else early_refusal(self._context, miss)

    def _one(self, miss: Miss, found: tuple[Candidate, ...], wait_seconds: float) -> Answer:
        if miss.kind == "blob":
            return self._blob(miss, found, wait_seconds)
        if miss.kind == "referrers":
            return self._referring.answer(miss, found, wait_seconds)
        if isinstance(miss.reference, Digest):
            return self._by_digest(miss, found, wait_seconds)
        return self._by_tag(miss, miss.reference, found, wait_seconds)

    def pushed(self, push: Push) -> int:
        """How many syncs come of it: they have begun. Raises `TooManyPushes`."""
        return self._pushes.take(push)

    def _synced(self, local: RepositoryName, tag: Tag) -> None:
        """What a client began with is not the newest any more, and the tag is fresh."""
        self._context.finishing.pending.drop((local, tag))
        self._absent.drop(Miss("manifest", local, tag))
        self._checked.put((local, tag), None)

    def resolve(self, place: Place) -> Answer:
        """Where a repository of another registry is here."""
        sync, name = self._context.profile.sync, place.repository
        found = (
            resolve_entry(sync, place.entry, name) if place.entry else resolve(sync, place.namespace, name)
        )
        if found is None:
            whose = (place.entry or place.namespace)[:100]
            return Refusal(404, "NAME_UNKNOWN", f"{name} of {whose} is not mirrored here")
        return TheRepository(found)

    # A tag

    def _by_tag(self, miss: Miss, tag: Tag, found: tuple[Candidate, ...], wait_seconds: float) -> Answer:
        takers = self._takers_of_tag(found, miss.repository, tag)
        key = (miss.repository, tag)
        repository = self._store.repository(miss.repository)
        self._apply_policy(miss.repository, tag)
        held = repository.tag(tag)
        if not takers.candidates:
            return Local(NOT_OURS) if held is not None else not_taken(miss, takers.reasons)
        pending = self._context.finishing.pending.get(key)
        if pending is not None and not repository.has_blob(pending.descriptor.digest):
            pending = None  # nobody pulled it for so long that it was collected
        if held is not None and pending is None:
            takers = Route(self._owners(held, takers.candidates))
            if not takers.candidates:
                return Local(NOT_OURS)
        fresh = takers.candidates[0].entry.manifest_check_interval - self._age(
            key, takers.candidates[0].entry
        )
        if fresh > 0 and (pending or held):
            return _here(pending, fresh)
        if pending is None and held is None:
            absent = self._absent.get(miss, younger_than=NEGATIVE)
            return absent or self._fetch_tag(miss, takers, wait_seconds)
        return self._revalidate(miss, takers, held, pending)

    def _apply_policy(self, local: RepositoryName, tag: Tag) -> None:
        """What another policy than today's let in is judged before it is served."""
        if not self._context.images.is_due(local, tag):
            return
        with self._sweeping:
            if self._context.images.is_due(local, tag):
                sweep_repository(self._context.images, local, Swept())

    def _fetch_tag(self, miss: Miss, takers: Route, wait_seconds: float) -> Answer:
        """Nothing is here: the client waits for upstream."""
        entry = takers.candidates[0].entry
        future = self._look(miss, takers.candidates, None)
        if entry.on_demand_in_background and not future.done():
            return Refusal(404, "MANIFEST_UNKNOWN", f"{miss} is being fetched; try again later")
        found = self._context.bulkhead.result(future, wait_seconds, entry)
        return TheManifest(found.digest, entry.manifest_check_interval)

    def _revalidate(
        self, miss: Miss, takers: Route, held: TagRecord | None, pending: Pending | None
    ) -> Answer:
        """Something is here: the client waits a moment, and gets that if upstream fails."""
        entry = takers.candidates[0].entry
        future = self._look(miss, takers.candidates, _record_of(pending) or held)
        try:
            found = in_time(future, revalidation_seconds(entry), entry, self._context.bulkhead)
        except NotChecked as reason:
            return _here(pending, 0, str(reason))
        if found.manifest is None:
            if pending is not None:
                self._context.finishing.resume(pending)
            return _here(pending, entry.manifest_check_interval)
        return TheManifest(found.digest, entry.manifest_check_interval)

    def _owners(self, held: TagRecord, takers: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """Who may move a tag that is here: where it came from, and nobody if somebody pushed it.

        Another registry that has the name too would otherwise take over what it never gave (invariant 5).
        """
        origin = held.origin
        if origin is None:
            return ()
        known = origin.registry in self._context.profile.entry_names()
        return tuple(
            each
            for each in takers
            if each.source == origin.repository and (each.entry.name == origin.registry or not known)
        )

    def _takers_of_tag(self, found: tuple[Candidate, ...], local: RepositoryName, tag: Tag) -> Route:
        """A companion is taken with its image only, unless a rule takes any tag."""
        subject = subject_of(tag)
        follows = subject is not None and self._store.repository(local).has_blob(subject)
        return route_of(found, tag, follows=follows)

    def _subject_of(self, local: RepositoryName, reference: Tag | Digest) -> Subject | None:
        """What a companion's tag accompanies: an image that is here, or that is arriving."""
        if isinstance(reference, Digest) or not is_companion_tag(reference):
            return None
        pending = self._context.finishing.pending.items()
        arriving = ((tag, each.record) for (name, tag), each in pending if name == local)
        return subject_in_store(reference, self._store.repository(local), arriving)

    def _age(self, key: tuple[RepositoryName, Tag], entry: RegistryEntry) -> float:
        """Seconds since upstream was asked for the tag, by us or by a poll."""
        local, tag = key
        poll = self._store.repository(local).poll(entry.name) if entry.manifest_check_interval else None
        polled = float("inf")
        if poll and poll.registry == entry.name and tag not in {*poll.upstream, *poll.problems, ""}:
            polled = max(0.0, time.time() - poll.checked)
        return min(self._checked.age(key), polled)

    # A manifest by digest

    def _by_digest(self, miss: Miss, found: tuple[Candidate, ...], wait_seconds: float) -> Answer:
        assert isinstance(miss.reference, Digest)
        lead = self._context.families.find_manifest(miss.repository, miss.reference, found)
        takers = Route(led(lead, found)) if lead else route_of(found, miss.reference)
        if not takers.candidates:
            return not_taken(miss, takers.reasons)
        absent = self._absent.get(miss, younger_than=NEGATIVE)
        if absent:
            return absent
        future = self._look(miss, takers.candidates, None, lead)
        found_here = self._context.bulkhead.result(future, wait_seconds, takers.candidates[0].entry)
        return TheManifest(found_here.image.digest)

    def _subject(self, miss: Miss, found: tuple[Candidate, ...], wait_seconds: float) -> Refusal | None:
        """Bring what `miss` refers to: without it, be it for a policy, there are no referrers here either."""
        subject = Miss("manifest", miss.repository, miss.reference, miss.via)
        answer = self._by_digest(subject, found, wait_seconds)
        return answer if isinstance(answer, Refusal) else None

    # Upstream, once for all who ask the same

    def _look(
        self,
        miss: Miss,
        takers: tuple[Candidate, ...],
        held: TagRecord | None,
        lead: Parent | None = None,
    ) -> Future[Resolved]:
        descriptor = lead.descriptor if lead else None
        run = self._context.run_of(takers[0])
        looking = ManifestResolver(
            self._context.run_of,
            self._context.bulkhead,
            miss.repository,
            miss.reference,
            held,
            descriptor,
            self._subject_of(miss.repository, miss.reference),
            self._refused,
        )
        return self._context.asking.once(
            miss,
            run,
            "fetch_manifest",
            lambda: self._bring(miss, looking, takers),
            of=takers,
            expected=NO_FAILURE,
        )

    def _bring(self, miss: Miss, looking: ManifestResolver, takers: tuple[Candidate, ...]) -> Resolved:
        """Ask, keep the manifest, and begin with the rest."""
        found = looking.ask(takers)
        key = None if isinstance(miss.reference, Digest) else (miss.repository, miss.reference)
        manifest = found.manifest
        if manifest is not None:
            descriptor = put_in_form(self._context.run_of(found.candidate), found, self._context.families)
            found = replace(found, here=descriptor.digest)
            if key is not None:
                pending = Pending(found.candidate, found.image, descriptor)
                self._context.finishing.pending.put(key, pending)
            self._context.finishing.begin(found.candidate, found.image, manifest)
        if key is not None:
            self._checked.put(key, None)
        return found

    # A blob

    def _blob(self, miss: Miss, found: tuple[Candidate, ...], wait_seconds: float) -> Answer:
        assert isinstance(miss.reference, Digest)
        lead = self._context.families.find_blob(miss.repository, miss.reference, found)
        takers = led(lead, found) if lead else ()
        if lead is None or not takers:
            return Local()
        if self._store.repository(miss.repository).adopt_blob(miss.reference):
            return TheBlob(lead.descriptor.size)
        arriving, new = self._context.arrivals.expect(miss.repository, miss.reference)
        if new:
            self._context.finishing.copy(takers[0], lead, miss.repository)
        self._context.bulkhead.result(arriving, wait_seconds, takers[0].entry)
        return TheBlob(lead.descriptor.size)


def _here(pending: Pending | None, fresh: float, warning: str = "") -> Answer:
    return TheManifest(pending.descriptor.digest, fresh) if pending else Local(fresh, warning)


def _record_of(pending: Pending | None) -> TagRecord | None:
    """A tag that is not set yet, as if it were: it is not fetched again either."""
    return pending.record if pending else None
