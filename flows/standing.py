"""The state of a mirror, tag by tag, from the store alone: what `status` shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tasks.cooldown import HELD_BACK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.records import PollRecord, TagRecord
    from registry_server.store.store import Store
    from tasks.stored_images import StoredImage, StoredImages


@dataclass(frozen=True, slots=True)
class TagStanding:
    """One tag: what the upstream has, what the store has, when that was last known. Times in unix seconds.

    `problem` is "" for a tag that is in place; `reference` is "" for a repository as a whole. `verdict` is
    that of signature verification when the image came, "" where there was none. `converted_from` is the
    upstream digest of what is stored, where that has another form; it can be pulled too. `held_back` says
    until when a newer digest waits (`minAge`); that is no problem.
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

    @property
    def in_place(self) -> bool:
        return not self.problem

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def standing(
    store: Store, registry: str | None = None, images: StoredImages | None = None
) -> Iterator[TagStanding]:
    """Every tag of every mirrored repository, in order; of one registry entry, or of all.

    `images`: also says which ones are not as today's policies want them, and which are hidden.
    """
    short = _shortfalls(images)
    for name in sorted({*store.repositories(), *store.polled(), *(name for name, _ in short)}):
        repository = store.repository(name)
        tags = {str(tag): record for tag, record in repository.tag_records().items()}
        polls = repository.polls()
        rows = [
            _judged(row, short.pop((name, row.reference), None)) for row in _repository(name, polls, tags)
        ]
        rows += [_hidden(each, polls) for (other, _), each in short.items() if other == name]
        yield from (row for row in rows if registry in (None, row.registry))


def _shortfalls(images: StoredImages | None) -> dict[tuple[RepositoryName, str], StoredImage]:
    found = images.all() if images else ()
    return {(each.repository, str(each.tag)): each for each in found if each.problem}


def _judged(row: TagStanding, image: StoredImage | None) -> TagStanding:
    if image is None:
        return row
    return replace(row, problem="; ".join(filter(None, (image.problem, row.problem))))


def _hidden(image: StoredImage, polls: Sequence[PollRecord]) -> TagStanding:
    """A tag that is kept and not served, and of which the last poll says nothing."""
    poll = _poll_of(image.record, polls)
    return TagStanding(
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


def _repository(
    name: RepositoryName, polls: Sequence[PollRecord], tags: dict[str, TagRecord]
) -> Iterator[TagStanding]:
    rows = [(tag, _poll_of(record, polls)) for tag, record in tags.items()]
    told = {(tag, poll.registry) for tag, poll in rows if poll}
    rows += [
        (each, poll)
        for poll in polls
        for each in (*poll.problems, *filter(lambda tag: _held_back(poll, tag), poll.declined))
        if (each, poll.registry) not in told
    ]
    for reference, poll in sorted(rows, key=lambda row: row[0]):
        record = tags.get(reference)
        origin = record.origin if record else None
        known = poll.upstream.get(reference) if poll else None
        yield TagStanding(
            registry=poll.registry if poll else origin.registry if origin else "",
            repository=str(name),
            reference=reference,
            upstream_digest=known or str(origin.digest if origin else ""),
            stored_digest=str(record.digest) if record else "",
            last_check=_check(poll, record),
            last_success=_success(poll, record, reference),
            problem=poll.problems.get(reference, "") if poll else "",
            verdict=record.verdict if record else "",
            converted_from=str((record.converted_from if record else None) or ""),
            held_back=_held_back(poll, reference) if poll else "",
        )


def _held_back(poll: PollRecord, reference: str) -> str:
    reason = poll.declined.get(reference, "").partition(" ")[2]
    return reason if reason.startswith(HELD_BACK) else ""


def _poll_of(record: TagRecord, polls: Sequence[PollRecord]) -> PollRecord | None:
    """The last poll by the entry that the tag came from; else the newest."""
    by = record.origin.registry if record.origin else ""
    return next((poll for poll in polls if poll.registry == by), polls[0] if polls else None)


def _check(poll: PollRecord | None, record: TagRecord | None) -> float | None:
    """When the upstream was last asked, by the record: for what came on demand that is when it came."""
    if poll is not None:
        return poll.checked
    return record.pushed if record and record.origin else None


def _success(poll: PollRecord | None, record: TagRecord | None, reference: str) -> float | None:
    """When this tag was last known to be what the upstream has."""
    if poll is None or reference in poll.problems or "" in poll.problems:
        return poll.succeeded if poll and poll.succeeded else record.pushed if record else None
    return poll.checked
