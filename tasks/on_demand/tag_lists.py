"""Which tags there are, as upstream has it (`tagListing`), so that Renovate and Flux see new versions."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from profiles.tag_filter import choose_tags
from registry_server.oci.errors import MirrorflowError, RepositoryUnknown
from registry_server.oci.reference import Tag
from tasks.on_demand.answers import Local, TheTags
from tasks.on_demand.context import FIRST_LIST_SECONDS, revalidation_seconds
from tasks.on_demand.limits.bulkhead import NotChecked, in_time
from tasks.on_demand.limits.timed_cache import TimedCache
from tasks.on_demand.resolve import NOT_THERE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.oci.reference import RepositoryName
    from tasks.on_demand.answers import Answer, TagPage
    from tasks.on_demand.context import OnDemandContext
    from tasks.on_demand.routing import Candidate

_SETTLED: Final = 60.0  # seconds for which the pages of one list are of one look upstream
_NOT_THERE: Final = 5.0  # seconds that "upstream does not have it" is good
_NOT_OURS: Final = 10.0  # seconds that the server need not ask again: the list is the store's
_MOST_LISTS: Final = 200


@dataclass(frozen=True, slots=True)
class _Listed:
    """What upstream has and the rules take, sorted; None: upstream does not have the repository."""

    tags: tuple[str, ...] | None
    warning: str = ""


class TagLists:
    """Thread-safe."""

    def __init__(self, context: OnDemandContext) -> None:
        self._context = context
        self._lists: TimedCache[RepositoryName, _Listed] = TimedCache(_MOST_LISTS, context.clock)

    def forget(self) -> None:
        """Another profile may have other rules."""
        self._lists = TimedCache(_MOST_LISTS, self._context.clock)

    def answer(self, page: TagPage, found: tuple[Candidate, ...], wait_seconds: float) -> Answer:
        """A page of the list, or that the store's list is the answer. Raises what upstream raises when
        nothing is here."""
        asked = [each for each in found if each.entry.tag_listing != "local"]
        if not asked:
            return Local(_NOT_OURS)
        entry, here = asked[0].entry, self._context.store.repository(page.repository).exists
        listed = self._lists.get(page.repository, younger_than=_good_for(page, asked))
        if listed is None:
            lists, run = self._lists, self._context.run_of(asked[0])
            future = self._context.asking.once(
                page, run, "list_tags", lambda: self._list(lists, page.repository, asked), of=asked
            )
            known = lists.get(page.repository) is not None
            wait = revalidation_seconds(entry) if known else min(wait_seconds, FIRST_LIST_SECONDS)
            bulkhead = self._context.bulkhead
            try:
                listed = (
                    in_time(future, wait, entry, bulkhead)
                    if here
                    else bulkhead.result(future, wait_seconds, entry)
                )
            except NotChecked as reason:
                return Local(0, str(reason))
        if listed.tags is None:
            return Local(min(_NOT_THERE, entry.manifest_check_interval))
        return TheTags(_page(self._merged(page, asked, listed.tags), page), listed.warning)

    def _list(
        self, lists: TimedCache[RepositoryName, _Listed], local: RepositoryName, asked: Sequence[Candidate]
    ) -> _Listed:
        """Of all registries that are asked for this name: what a client can pull. Raises `UpstreamError`."""
        names: set[str] = set()
        failures: list[MirrorflowError] = []
        there = False
        for candidate in asked:
            try:
                with self._context.bulkhead.asking(candidate.entry):
                    tags = self._context.run_of(candidate).upstream.tags(candidate.source)
                there = True
                names.update(_taken(candidate, tags))
            except NOT_THERE:
                continue
            except MirrorflowError as error:
                failures.append(error)
        if failures and not there:
            raise failures[0]
        warning = f"the list is incomplete: {failures[0]}" if failures else ""
        listed = _Listed(tuple(sorted(names)) if there else None, warning)
        lists.put(local, listed)
        return listed

    def _merged(self, page: TagPage, asked: Sequence[Candidate], tags: tuple[str, ...]) -> Sequence[str]:
        if all(each.entry.tag_listing == "upstream" for each in asked):
            return tags
        try:
            return sorted({*tags, *self._context.store.repository(page.repository).tags()})
        except RepositoryUnknown:
            return tags


def _good_for(page: TagPage, asked: Sequence[Candidate]) -> float:
    """The pages behind the first one are of the same list: a client that pages asks upstream once."""
    interval = min(each.entry.manifest_check_interval for each in asked)
    return max(interval, _SETTLED) if page.last else interval


def _taken(candidate: Candidate, tags: Sequence[str]) -> set[str]:
    """What the rules' filters let pass. `select` would need every image, and is left to the pull."""
    taken: set[str] = set()
    for rule in candidate.rules:
        taken.update(tags if rule is None else choose_tags(rule, tags, candidate.source).kept)
    return {tag for tag in taken if Tag.is_valid(tag)}


def _page(tags: Sequence[str], page: TagPage) -> tuple[str, ...]:
    start = bisect.bisect_right(tags, page.last) if page.last else 0
    return tuple(tags[start : start + page.limit])
