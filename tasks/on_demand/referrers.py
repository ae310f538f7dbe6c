"""GET of referrers is a trigger too: what refers to a subject upstream is brought in, and listed from here.

The artifact manifests are stored, and with them what is small (a signature, an SBOM of some kilobytes);
larger blobs come when somebody asks for them. (distribution-spec, "Listing Referrers".)
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from profiles.matching import referrers_of
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError, NotFound
from tasks.companions.admission import why_left_out
from tasks.companions.missing import FOREIGN
from tasks.context.verification import is_strict
from tasks.manifests.reading import parsed
from tasks.on_demand.answers import Local
from tasks.on_demand.content_index import led
from tasks.on_demand.context import FIRST_LIST_SECONDS, revalidation_seconds
from tasks.on_demand.limits.bulkhead import NotChecked, in_time
from tasks.on_demand.limits.timed_cache import TimedCache
from tasks.on_demand.resolve import NOT_THERE
from tasks.on_demand.routing import route_of
from tasks.publish_image.publish import converted_digests, copy_referrers
from tasks.run.errors import ReservedType, is_stop
from tasks.run.values import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.answers import Answer, Miss, Refusal
    from tasks.on_demand.context import OnDemandContext
    from tasks.on_demand.routing import Candidate

    Subject = Callable[[Miss, tuple[Candidate, ...], float], Refusal | None]

log = logging.getLogger("mirrorflow.on_demand")

_MOST: Final = 1000  # of one subject; who has more has a bug, or wants to fill our disk
_AT_ONCE: Final = 6
_SMALL: Final = 1024 * 1024  # bytes of all blobs of an artifact
_UNWANTED: Final = "the rules' `referrers` do not take it"


@dataclass(frozen=True, slots=True)
class _Brought:
    """`lacking`: why some of them are not here, "" when all are."""

    lacking: str = ""


class ReferrerFetcher:
    """`subject` brings what is referred to, or says why not."""

    def __init__(self, context: OnDemandContext, subject: Subject) -> None:
        self._context = context
        self._subject = subject
        self._checked: TimedCache[Miss, None] = TimedCache(100_000, context.clock)

    def answer(self, miss: Miss, found: tuple[Candidate, ...], wait_seconds: float) -> Answer:
        """Answers from the store, after a look upstream. Raises what upstream raises if nothing is here."""
        assert isinstance(miss.reference, Digest)
        following, age = tuple(filter(_follows, found)), self._checked.age(miss)
        held = self._is_here(miss.repository, miss.reference)
        # Before the look at every tag that the owner costs.
        fresh = min((each.entry.manifest_check_interval for each in following), default=0.0) - age
        if held and fresh > 0:
            return Local(fresh)
        takers = self._takers(miss.repository, miss.reference, following)
        if not takers:
            return Local()
        entry = takers[0].entry
        if not held and (refused := self._subject(miss, found, wait_seconds)):
            # A list, be it empty, is never 404; but what a policy refuses is refused.
            return Local() if refused.status == 404 else refused
        run = self._context.run_of(takers[0])
        body = lambda: self._bring(miss, takers)  # noqa: E731 - it is the question's answer
        future = self._context.asking.once(miss, run, "fetch_referrers", body, of=takers)
        if not held:
            brought = self._context.bulkhead.result(future, wait_seconds, entry)
            return Local(entry.manifest_check_interval, brought.lacking)
        wait = revalidation_seconds(entry) if age < float("inf") else min(wait_seconds, FIRST_LIST_SECONDS)
        try:
            brought = in_time(future, wait, entry, self._context.bulkhead)
        except NotChecked as reason:
            return Local(0, str(reason))
        return Local(0 if brought.lacking else entry.manifest_check_interval, brought.lacking)

    def _is_here(self, local: RepositoryName, subject: Digest) -> bool:
        try:
            self._context.store.repository(local).find_manifest(subject)
        except NotFound:
            return False
        return True

    def _takers(
        self, local: RepositoryName, subject: Digest, found: tuple[Candidate, ...]
    ) -> tuple[Candidate, ...]:
        """From where the subject came; what somebody pushed here has its referrers here."""
        records = self._context.store.repository(local).tag_records().values()
        tagged = [record for record in records if subject in record.roots]
        if tagged:
            origins = {(each.origin.registry, each.origin.repository) for each in tagged if each.origin}
            return tuple(each for each in found if (each.entry.name, each.source) in origins)
        pending = self._context.finishing.pending.items()
        for (name, _), each in pending:
            if name == local and each.descriptor.digest == subject:
                return (each.candidate,)
        lead = self._context.families.find_manifest(local, subject, found)
        return led(lead, found) if lead else route_of(found, subject).candidates

    def _bring(self, miss: Miss, takers: tuple[Candidate, ...]) -> _Brought:
        """Of the first that has a list. Raises `UpstreamError`.

        Upstream knows a converted image by the digest of its original; what was made of that gets copies.
        """
        subject = Digest(miss.reference)
        repository = self._context.store.repository(miss.repository)
        tagged = (record for record in repository.tag_records().values() if record.digest == subject)
        made = converted_digests(repository, record) if (record := next(tagged, None)) else {}
        subject = next(iter(made), subject)
        for candidate in takers:
            run = self._context.run_of(candidate)
            try:
                with self._context.bulkhead.asking(candidate.entry):
                    listed = run.upstream.referrers(candidate.source, subject)
            except NOT_THERE:
                continue
            brought = _Keeping(self._context, run, candidate, miss.repository, subject).keep(listed)
            copy_referrers(run, miss.repository, made)
            if not brought.lacking:
                self._checked.put(miss, None)
            return brought
        self._checked.put(miss, None)
        return _Brought()


def _follows(candidate: Candidate) -> bool:
    """Whether the rules let any referrer follow."""
    return any(referrers_of(candidate.entry, rule).follow for rule in candidate.rules)


@dataclass(frozen=True, slots=True)
class _Keeping:
    """Puts the manifests of artifacts into the store, where their list is made of them."""

    context: OnDemandContext
    run: MirrorRun
    candidate: Candidate
    local: RepositoryName
    subject: Digest

    def keep(self, listed: Sequence[Descriptor]) -> _Brought:
        repository = self.context.store.repository(self.local)
        known = {each.digest for each in repository.referrers(self.subject)} if repository.exists else set()
        new = [each for each in dict.fromkeys(listed) if each.digest not in known]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="referrers") as threads:
            problems = [each for each in threads.map(self._attempt, new[:_MOST]) if each]
        if len(new) > _MOST:
            problems.append(f"upstream lists {len(listed):,} of them, and {_MOST:,} are taken")
        return _Brought(f"some referrers are missing: {problems[0]}" if problems else "")

    def _attempt(self, descriptor: Descriptor) -> str:
        """Why it is not here, for the client's Warning; what a policy leaves out is said in the log."""
        try:
            self._keep(descriptor)
        except MirrorflowError as error:
            if is_stop(error):
                raise
            log.warning("%s: a referrer of %s is left out: %s", self.local, self.subject, error)
            return str(error)
        return ""

    def _keep(self, descriptor: Descriptor) -> None:
        self.run.check_stopped()
        source, digest = self.candidate.source, descriptor.digest
        image = Image(source, self.local, digest, digest, descriptor.media_type)
        fetched = self.run.upstream.manifest(source, digest, expected=descriptor)
        try:
            manifest = parsed(self.run, image, descriptor, fetched.body, fetched.media_type)
            reason = self._why_not(image, manifest)
        except ReservedType as error:
            reason = str(error)
        if reason:
            log.info("%s: %s is left out as a referrer of %s: %s", self.local, digest, self.subject, reason)
            return
        self.context.store.repository(self.local).put_manifest(manifest, digest)
        self.context.families.add(self.local, digest, manifest, self.candidate)
        if not manifest.is_index and sum(blob.size for blob in manifest.blobs) <= _SMALL:
            self.context.finishing.begin(self.candidate, image, manifest)

    def _why_not(self, image: Image, manifest: Manifest) -> str:
        """As in a poll; "" for what may come."""
        if manifest.subject is None or manifest.subject.digest != self.subject:
            return FOREIGN
        own = manifest.descriptor(self.subject.algorithm)
        wishes = (referrers_of(self.candidate.entry, rule) for rule in self.candidate.rules)
        if not any(each.takes(own.artifact_type, own.annotations) for each in wishes):
            return _UNWANTED
        return why_left_out(self.run, image, manifest, strict=is_strict(self.run, image))
