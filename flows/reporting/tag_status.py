"""The state of a mirror, tag by tag, from the store alone: what `status` shows."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from registry_server.store.mirror_state.withheld_digests import all_withheld, withholding
from tasks.context.cooldown import words

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.mirror_state.withheld_digests import Withheld
    from registry_server.store.records import PollRecord, TagRecord
    from registry_server.store.store import Store
    from tasks.stored.images import StoredImage


@dataclass(frozen=True, slots=True)
class TagStatus:
    """One tag: what the upstream has, what the store has, when that was last known. Times in unix seconds.

    `problem` is "" for a tag that is in place; `reference` is "" for a repository as a whole. `verdict` is
    that of signature verification when the image came, "" where there was none. `converted_from` is the
    upstream digest of what is stored, where that has another form; it can be pulled too. `held_back` says
    until when a newer digest waits (`minAge`); that is no problem. `gone_since`: the upstream no longer has
    the tag, since that time at least; that is no problem either. `destination` is where it is stored.
    """

    registry: str
    repository: str
    reference: str
    upstream_digest: str
    stored_digest: str
    last_check: float | None
    last_success: float | None
    problem: str
    verdict: str = ""
    converted_from: str = ""
    held_back: str = ""
    gone_since: float | None = None
    destination: str = "store"

    @property
    def in_place(self) -> bool:
        return not self.problem

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def tag_statuses(
    store: Store,
    registry: str | None = None,
    *,
    short: Iterable[StoredImage] = (),
    entries: Container[str] | None = None,
    only: Collection[RepositoryName] | None = None,
    now: float | None = None,
) -> Iterator[TagStatus]:
    """Every tag of every mirrored repository (or of `only`), in order; of one registry entry, or of all.

    `short`: images that are not as today's policies want them (`StoredImages.shortfalls`). `entries`: the
    registry entries of the profile; what others withheld is not shown. `now` in unix seconds.
    """
    now = time.time() if now is None else now
    left: dict[RepositoryName, list[StoredImage]] = defaultdict(list)
    for each in short:
        left[each.repository].append(each)
    known = {*store.repositories(), *store.polled(), *withholding(store), *left} if only is None else {*only}
    for name in sorted(known):
        rows = repository_tags(store, name, short=left[name], entries=entries, now=now)
        yield from (row for row in rows if registry in (None, row.registry))


def repository_tags(
    store: Store,
    name: RepositoryName,
    *,
    short: Iterable[StoredImage] = (),
    entries: Container[str] | None = None,
    now: float,
) -> list[TagStatus]:
    """Every tag of one repository, in order; the arguments are those of `tag_statuses`."""
    images, stored = {str(each.tag): each for each in short}, store.repository(name)
    tags = {str(tag): record for tag, record in stored.tag_records().items()}
    repository = _Repository(name, stored.polls(), tags, _withheld(store, name, tags, entries, now))
    rows = [_judged(row, images.pop(row.reference, None)) for row in repository.rows()]
    return rows + [_hidden(each, repository.polls) for each in images.values()]


def _withheld(
    store: Store,
    name: RepositoryName,
    tags: Mapping[str, TagRecord],
    entries: Container[str] | None,
    now: float,
) -> dict[str, Withheld]:
    """By tag or digest: what waits, and what was refused for a tag that is here; not what came in since."""
    return {
        reference: found
        for reference, found in ((str(key), found) for key, found in all_withheld(store, name).items())
        if found.until > now or (found.refused and reference in tags)
        if reference not in tags or tags[reference].upstream_digest != found.digest
        if entries is None or found.registry in entries
    }


def _judged(row: TagStatus, image: StoredImage | None) -> TagStatus:
    if image is None:
        return row
    return replace(row, problem="; ".join(filter(None, (image.problem, row.problem))))


def _hidden(image: StoredImage, polls: Sequence[PollRecord]) -> TagStatus:
    """A tag that is kept and not served, and of which the last poll says nothing."""
    poll = _poll_of(image.record, polls)
    return TagStatus(
        registry=image.entry.name,
        repository=str(image.repository),
        reference=str(image.tag),
        upstream_digest=str(image.upstream_digest),
        stored_digest="",
        last_check=_check(poll, image.record),
        last_success=None,
        problem=image.problem,
        verdict=image.record.verdict,
    )


@dataclass(frozen=True, slots=True)
class _Repository:
    """What is known of one local repository; tags and digests are texts."""

    name: RepositoryName
    polls: Sequence[PollRecord]
    tags: Mapping[str, TagRecord]
    withheld: Mapping[str, Withheld]

    def rows(self) -> Iterator[TagStatus]:
        """A row for each stored tag, then for what an entry wants and has not got; in order of the names."""
        rows = [(tag, _poll_of(record, self.polls)) for tag, record in self.tags.items()]
        told = {(tag, poll.registry) for tag, poll in rows if poll}
        missing = {
            **{(each, poll.registry): poll for poll in self.polls for each in poll.problems},
            **{(each, found.registry): self._poll_by(found.registry) for each, found in self._waiting()},
        }
        rows += [(each, poll) for (each, registry), poll in missing.items() if (each, registry) not in told]
        yield from (self._row(*row) for row in sorted(rows, key=lambda row: row[0]))

    def _waiting(self) -> Iterator[tuple[str, Withheld]]:
        return ((each, found) for each, found in self.withheld.items() if each not in self.tags)

    def _poll_by(self, registry: str) -> PollRecord | None:
        return next((poll for poll in self.polls if poll.registry == registry), None)

    def _row(self, reference: str, poll: PollRecord | None) -> TagStatus:
        record, found = self.tags.get(reference), self.withheld.get(reference)
        origin = record.origin if record else None
        known = poll.upstream.get(reference) if poll else None
        refused = found.refused if found else ""
        gone = poll.gone.get(reference) if poll and record else None
        return TagStatus(
            registry=poll.registry
            if poll
            else origin.registry
            if origin
            else found.registry
            if found
            else "",
            repository=str(self.name),
            reference=reference,
            upstream_digest=""
            if gone is not None
            else known or str(found.digest if found else origin.digest if origin else ""),
            stored_digest=str(record.digest) if record else "",
            last_check=_check(poll, record, found),
            last_success=_success(poll, record, reference) if gone is None else gone,
            problem=(poll.problems.get(reference, "") if poll else "") or refused,
            verdict=record.verdict if record else "",
            converted_from=str((record.converted_from if record else None) or ""),
            held_back=words(found) if found and not refused else "",
            gone_since=gone,
        )


def _poll_of(record: TagRecord, polls: Sequence[PollRecord]) -> PollRecord | None:
    """The last poll by the entry that the tag came from; else the newest."""
    by = record.origin.registry if record.origin else ""
    return next((poll for poll in polls if poll.registry == by), polls[0] if polls else None)


def _check(
    poll: PollRecord | None, record: TagRecord | None, withheld: Withheld | None = None
) -> float | None:
    """When the upstream was last asked, by the records: on demand, when an image came or was first seen."""
    if poll is not None:
        return poll.checked
    if withheld is not None:
        return withheld.since
    return record.pushed if record and record.origin else None


def _success(poll: PollRecord | None, record: TagRecord | None, reference: str) -> float | None:
    """When this tag was last known to be what the upstream has."""
    if poll is None or reference in poll.problems or "" in poll.problems:
        return poll.succeeded if poll and poll.succeeded else record.pushed if record else None
    return poll.checked
