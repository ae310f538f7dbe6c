"""What a run leaves behind for the next one and for `status`: one small record a repository and poll."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store.errors import StoreError
from registry_server.store.records import PollRecord
from tasks.run.only import search_errors
from tasks.run.transfers import Transfers
from tasks.run.values import Step

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.record import RunRecord
    from tasks.run.values import Findings


log = logging.getLogger("mirrorflow.polling")
_IN_STORAGE: Final = 16  # records that are put into object storage at once


@dataclass(slots=True)
class _Seen:
    """Everything that the run learnt about one local repository, by tag or digest."""

    upstream: dict[str, Digest] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)  # upstream repositories whose whole list was read


def record_polls(run: MirrorRun, record: RunRecord) -> None:
    """Write what was seen, once a repository; a run for few images only adds to the last record.

    A store that refuses (it is full, or read-only) is logged: what the run did is told all the same.
    """
    now, noted = time.time(), record.noted()

    def put(item: tuple[RepositoryName, _Seen]) -> None:
        local, seen = item
        repository = run.store.repository(local)
        try:
            poll = _record(run, repository, seen, noted.get(local, {}), now)
            repository.put_poll(poll, keep=_entries(run))
        except StoreError as error:
            log.warning("%s: cannot save the poll record: %s", local, error)

    # Not on the threads of the run: when it is abandoned, they are stuck.
    with closing(Transfers(1 if run.store.is_local else _IN_STORAGE)) as threads:
        threads.each(put, [*_collect(run, record).items()])


def _collect(run: MirrorRun, record: RunRecord) -> Mapping[RepositoryName, _Seen]:
    found: defaultdict[RepositoryName, _Seen] = defaultdict(_Seen)
    for source, error in search_errors(run.only, list(record.findings.values())):
        for target in source.targets:
            found[target.local].problems[""] = str(error)
    for findings in record.searched():
        for target in findings.source.targets:
            _ = found[target.local]  # a repository without any tag has been checked as well
        _collect_tags(findings, found)
    _collect_gone(record, found)
    for progress in record.progress.values():
        seen, reference = found[progress.image.local], str(progress.image.reference)
        if progress.skipped:
            seen.declined[reference] = f"{progress.image.digest} {progress.skipped}"
        elif progress.step is not Step.PUBLISHED:
            seen.problems[reference] = str(progress.error or "the run ended before its turn")
    return found


def _collect_tags(findings: Findings, found: defaultdict[RepositoryName, _Seen]) -> None:
    for image in findings.changed:
        found[image.local].changed.add(str(image.reference))
    for name, digest in findings.upstream.items():
        found[name.repository].upstream[str(name.reference)] = digest
    _by_repository(found, findings.problems, "problems")
    for name, reason in findings.declined.items():
        declined = f"{findings.upstream.get(name, '')} {reason}"
        found[name.repository].declined[str(name.reference)] = declined


def _collect_gone(record: RunRecord, found: Mapping[RepositoryName, _Seen]) -> None:
    for findings in record.findings.values():
        if findings.gone is None:
            continue
        for target in findings.source.targets:
            found[target.local].listed.add(findings.source.name)
        for name in findings.gone:
            found[name.repository].gone.add(str(name.reference))


def _by_repository(
    found: defaultdict[RepositoryName, _Seen], reasons: Mapping[ImageName, str], pile: str
) -> None:
    for name, reason in reasons.items():
        getattr(found[name.repository], pile)[str(name.reference)] = reason


def _record(
    run: MirrorRun, repository: Repository, seen: _Seen, companions: dict[str, str], now: float
) -> PollRecord:
    before = repository.poll(run.entry.name)
    problems, declined = dict(seen.problems), dict(seen.declined)
    # What is neither changed, nor declined, nor a problem was compared with the store and found in place.
    doubtful = seen.changed | seen.declined.keys() | seen.problems.keys()
    upstream: dict[str, str] = {
        tag: digest
        for tag, digest in seen.upstream.items()
        if tag in doubtful and not _is_here(repository, tag, digest)
    }
    if run.only and before is not None:
        touched = {"", *seen.upstream, *seen.problems}
        problems |= _without(touched, before.problems)
        declined |= _without(touched, before.declined)
        upstream |= _without(touched, before.upstream)
        companions = dict(before.companions) | companions
    succeeded = before.succeeded if before is not None else None
    return PollRecord(
        registry=run.entry.name,
        checked=now,
        succeeded=succeeded if problems else now,
        upstream=upstream,
        problems=problems,
        declined=declined,
        companions=companions,
        gone=_gone(repository, seen, before, now),
        lists=(dict(before.lists) if before is not None else {}) | dict.fromkeys(seen.listed, now),
    )


def _gone(repository: Repository, seen: _Seen, before: PollRecord | None, now: float) -> dict[str, float]:
    """Since when each tag is gone. What this run could not tell stays as it was known."""
    known = before.gone if before is not None else {}
    gone = {tag: known.get(tag, now) for tag in sorted(seen.gone)}
    for tag, since in known.items():
        if tag in gone or tag in seen.upstream or not Tag.is_valid(tag):
            continue
        record = repository.tag(Tag(tag))
        if record is not None and record.origin and record.origin.repository not in seen.listed:
            gone[tag] = since
    return gone


def _entries(run: MirrorRun) -> frozenset[str]:
    """Whose last polls stay on record: those of the profile."""
    return frozenset(entry.name for entry in run.sync.registries) if run.sync else frozenset()


def _without(touched: Container[str], before: Mapping[str, str]) -> dict[str, str]:
    return {tag: text for tag, text in before.items() if tag not in touched}


def _is_here(repository: Repository, reference: str, digest: Digest) -> bool:
    if ":" in reference:
        return repository.has_blob(digest)
    record = repository.tag(Tag(reference))
    return record is not None and record.upstream_digest == digest
