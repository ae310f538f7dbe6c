"""What refers to what, upstream: each question once a run, and none that is known to have no answer.

A registry without the referrers API is found out by one request. From then on the fallback tags, which
clients keep instead (distribution-spec, "Referrers Tag Schema"), are seen in the list of tags, at no cost.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from registry_server.oci.companion_tags import fallback_tag, is_companion_tag, may_be_referrers_list
from tasks.run.values import ListedReferrers
from tasks.upstream.errors import UpstreamDenied, UpstreamNotFound, Where
from tasks.upstream.lists.listing import parse_list

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from tasks.context.mirror_run import RecentManifests
    from tasks.upstream.registry import UpstreamRegistry

_MOST_KEPT: Final = 20_000  # descriptors that are remembered
_AGAIN: Final = (
    600.0  # seconds after which a registry without the API is asked again: a receiver runs for weeks
)


@dataclass(frozen=True, slots=True)
class Listed:
    """What refers to a digest. `by_tag`: a client keeps that list, and its artifact types may be wrong.

    `version` is the digest of such a list, "" by the API.
    """

    found: tuple[Descriptor, ...] = ()
    by_tag: bool = False
    version: str = ""


@dataclass
class ReferrerLists:
    """Of one upstream in one run. Thread-safe. `remember=False`: only what concerns the API is remembered."""

    upstream: UpstreamRegistry
    recent: RecentManifests
    remember: bool = True
    clock: Callable[[], float] = time.monotonic
    _kept: OrderedDict[tuple[str, Digest], tuple[Descriptor, ...]] = field(default_factory=OrderedDict)
    _size: int = 0
    _tags: dict[str, frozenset[str]] = field(default_factory=dict)
    _lists: dict[tuple[str, str], Digest] = field(default_factory=dict)
    _without: dict[str, float] = field(default_factory=dict)  # repository ("": any) -> since when
    _has_api: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _probing: threading.Lock = field(default_factory=threading.Lock)

    def note_tags(self, repository: str, tags: Iterable[str]) -> None:
        """All tags of a repository have been listed: these of them are companions'."""
        if self.remember:
            self._tags[repository] = frozenset(
                tag for tag in tags if is_companion_tag(tag) or may_be_referrers_list(tag)
            )

    def note_list(self, repository: str, tag: str, digest: Digest) -> None:
        """A list of referrers was seen under a tag, with this digest."""
        if self.remember:
            self._lists[repository, tag] = digest

    def listed(self, repository: str) -> ListedReferrers | None:
        """What the tags of a repository say, for another process; None: they have not been listed."""
        tags = self._tags.get(repository)
        if tags is None:
            return None
        return ListedReferrers(
            tags, {tag: found for tag in tags if (found := self._lists.get((repository, tag)))}
        )

    def learn(self, repository: str, listed: ListedReferrers | None) -> None:
        """What another process has listed."""
        if listed is not None and self.remember and repository not in self._tags:
            self._tags[repository] = listed.tags
            self._lists.update({(repository, tag): digest for tag, digest in listed.digests.items()})

    def companion_tags(self, repository: str) -> Collection[str] | None:
        """The tags of companions, all of them; None: the tags have not been listed."""
        return self._tags.get(repository)

    def referrers_by_api(self, repository: str, digest: Digest) -> tuple[Descriptor, ...] | None:
        """None where the registry does not have the API. Raises `UpstreamError`."""
        with self._lock:
            kept = self._kept.get((repository, digest))
        if kept is not None:
            return kept
        if not self._has_api:
            with self._probing:  # one finds out for all; who waited asks beside the others
                if not self._has_api:
                    return self._ask(repository, digest)
        return self._ask(repository, digest)

    def _ask(self, repository: str, digest: Digest) -> tuple[Descriptor, ...] | None:
        if any(self._lacks(name) for name in ("", repository)):
            return None
        found = self.upstream.referrers_by_api(repository, digest)
        if found is None:
            # Behind one host there may be several registries: once one has answered, only this is without.
            self._without[repository if self._has_api else ""] = self.clock()
            return None
        self._has_api = True
        return self._keep(repository, digest, tuple(found))

    def _lacks(self, name: str) -> bool:
        since = self._without.get(name)
        return since is not None and (self.remember or self.clock() - since < _AGAIN)

    def _keep(self, repository: str, digest: Digest, found: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
        if self.remember:
            with self._lock:
                self._kept[repository, digest] = found
                self._size += 1 + len(found)
                while self._size > _MOST_KEPT:
                    self._size -= 1 + len(self._kept.popitem(last=False)[1])
        return found

    def of(self, repository: str, digest: Digest, *, known: str = "") -> Listed | None:
        """What refers to `digest`; None where that is the fallback list of version `known`, unchanged.

        Raises `UpstreamError`. A registry that refuses to list referrers is taken for one without the API.
        """
        try:
            found = self.referrers_by_api(repository, digest)
        except UpstreamDenied:
            found = None
        return self._by_tag(repository, digest, known) if found is None else Listed(found)

    def is_cheap(self, repository: str, digest: Digest) -> bool:
        """Whether `of` is known to find something, or costs at most the API's one request.

        Raises `UpstreamError`.
        """
        with suppress(UpstreamDenied):
            if self.referrers_by_api(repository, digest) is not None:
                return True
        tags = self._tags.get(repository)
        return tags is not None and fallback_tag(digest) in tags

    def _by_tag(self, repository: str, digest: Digest, known: str) -> Listed | None:
        tag = fallback_tag(digest)
        tags = self._tags.get(repository)
        if tags is not None and tag not in tags:
            return Listed(by_tag=True)
        try:
            now = self._lists.get((repository, tag))
            if now is None and (known or tags is None):
                now = self.upstream.head(repository, tag).digest
            if now == known:
                return None
            seen = self.recent.find(repository, now) if now else None
            fetched = seen or self.upstream.manifest(repository, tag)
        except UpstreamNotFound:
            return Listed(by_tag=True)
        if fetched.media_type and "index" not in fetched.media_type and "list" not in fetched.media_type:
            return Listed(by_tag=True)  # an image of somebody who calls it so
        where = Where(self.upstream.name, repository, tag)
        return Listed(parse_list(fetched.body, where), by_tag=True, version=str(fetched.digest))
