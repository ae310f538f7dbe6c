"""What a repository needs and what it does not: the marking half of garbage collection.

Fails closed: a tag or a manifest that cannot be read leaves the question open what it needs, and then
nothing of its repository is given up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from registry_server.oci.companion_tags import is_named_after, may_be_referrers_list, subject_of
from registry_server.oci.digest import Digest
from registry_server.store import records
from registry_server.store.errors import StoreDamaged
from registry_server.store.gc.gc_report import Unneeded
from registry_server.store.gc.retention import Candidate
from registry_server.store.pool.blob_pool import digest_of, file_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from registry_server.store.gc.retention import RepositoryRetention
    from registry_server.store.objects.objects import Objects
    from registry_server.store.pool.blob_pool import Pool
    from registry_server.store.records import TagRecord

_LISTS = ("layers", "manifests", "blobs")


@dataclass(frozen=True, slots=True)
class Links:
    """What a manifest names: `needs` must stay with it, `subject` need not.

    `lists_referrers`: it is an index that could be a list of referrers; its tag says whether it is.
    """

    needs: tuple[str, ...] = ()
    subject: str | None = None
    size: int = 0
    lists_referrers: bool = False


@dataclass(frozen=True, slots=True)
class AgeLimits:
    """Unix seconds by the clock of the store: what is younger than a limit stays."""

    now: float
    young: float  # markers and blobs
    untagged: float  # manifests


@dataclass(slots=True)
class RepositoryView:
    """One repository as its files are; `look` again is cheap, because content never changes.

    `folder` is `repos/<name>/_r`, `pinned` are digests that stay without a tag. Methods raise OSError and
    `StoreDamaged`.
    """

    name: str
    folder: str
    pool: Pool
    policy: RepositoryRetention
    pinned: Collection[str] = ()
    tags: dict[str, TagRecord] = field(default_factory=dict)
    manifests: set[Digest] = field(default_factory=set)
    blobs: set[Digest] = field(default_factory=set)
    _links: dict[str, Links] = field(default_factory=dict)

    def look(self) -> None:
        """Markers first, tags last: what a tag needs is marked before the tag is there."""
        self.list_marked()
        self.tags = self._read_tags()
        for digest in self.manifests:
            if digest not in self._links:
                self._links[digest] = self._read_links(digest)

    def list_marked(self) -> None:
        """All that this repository holds, of whatever use."""
        self.blobs = digests_in(self.pool.objects, f"{self.folder}/blobs")
        self.manifests = digests_in(self.pool.objects, f"{self.folder}/manifests")

    def find_unneeded(self, ages: AgeLimits) -> Unneeded:
        """What can go, and why."""
        expired = self._expired_tags(ages.now)
        companions = {
            tag: subject for tag in self.tags if self.policy.keep_tags and (subject := self._subject_of(tag))
        }
        kept = self.tags.keys() - expired.keys() - companions.keys()
        live: set[str] = set()
        self._mark_live(live, [*self.pinned, *(root for tag in kept for root in self.tags[tag].roots)])
        self._keep_companions(live, companions)
        self._keep_untagged(live, ages)
        self._keep_companions(live, companions)
        expired |= dict.fromkeys(companions, "its image was removed")
        return Unneeded(self.name, expired, self._dead_manifests(live), self._dead_blobs(live, ages.young))

    def size(self, digest: str) -> int:
        """Of a manifest that `look` has seen, in bytes."""
        return self._links[digest].size

    def keys_of(self, unneeded: Unneeded) -> Iterator[str]:
        """What to remove, in this order, after the tags."""
        for tag in unneeded.tags:
            yield f"{self.folder}/pulls/{tag}"
        for digest in unneeded.manifests:
            yield f"{self.folder}/manifests/{_file(digest)}"
            yield f"{self.folder}/pulls/{_file(digest)}"
            subject = self._links[digest].subject
            if subject is not None and digest_of(subject.replace(":", "-", 1)):
                yield f"{self.folder}/referrers/{_file(subject)}/{_file(digest)}"
        for digest in unneeded.blobs:
            yield f"{self.folder}/blobs/{_file(digest)}"

    def _expired_tags(self, now: float) -> dict[str, str]:
        tags = self.tags.items()
        return self.policy.expired_tags(
            [
                # Most clients ask for a tag's digest by HEAD, and pull that.
                Candidate(tag, record.pushed, max(map(self._pulled, (tag, *map(_file, record.roots)))))
                for tag, record in tags
                # One that is about to change is young a moment later (mirror_state/tag_switch.py).
                if self._subject_of(tag) is None and record.pending is None
            ],
            now,
        )

    def _subject_of(self, tag: str) -> str | None:
        """What a companion, or a list of referrers that a client pushed, stays with and goes with."""
        digest = self.tags[tag].digest
        if may_be_referrers_list(tag) and not is_named_after(tag, digest):
            return tag.replace("-", ":", 1) if self._links.get(digest, Links()).lists_referrers else None
        return subject_of(tag)

    def _pulled(self, name: str) -> float:
        return self._modified(f"{self.folder}/pulls/{name}") or 0.0

    def _mark_live(self, live: set[str], queue: list[str]) -> None:
        """Whatever these need, and whatever refers to one of them."""
        referrers = self._referrers()
        while queue:
            digest = queue.pop()
            if digest not in live:
                live.add(digest)
                queue.extend(self._links.get(digest, Links()).needs)
                queue.extend(referrers.get(digest, ()))

    def _referrers(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for digest in self.manifests:
            subject = self._links[digest].subject
            if subject is not None:
                found.setdefault(subject, []).append(digest)
        return found

    def _keep_companions(self, live: set[str], companions: dict[str, str]) -> None:
        """Companion tags (`sha256-<hex>.sig`) stay with their image; those that do leave `companions`."""
        while kept := [tag for tag, subject in companions.items() if self._stays_with(subject, live)]:
            self._mark_live(live, [root for tag in kept for root in self.tags[tag].roots])
            for tag in kept:
                del companions[tag]

    def _stays_with(self, subject: str, live: set[str]) -> bool:
        """What refers to something that is not here stays, unless the policy says otherwise."""
        return subject in live or not (self.policy.delete_referrers or subject in self.manifests)

    def _keep_untagged(self, live: set[str], ages: AgeLimits) -> None:
        """Manifests without a tag that stay: young ones, the policy's, and referrers to what is not here."""
        dead = self.manifests - live
        self._mark_live(
            live, [digest for digest in dead if not self._is_old("manifests", digest, ages.untagged)]
        )
        dead -= live
        links = {digest: self._links[digest] for digest in dead}
        children = {child for each in links.values() for child in each.needs}
        tops = [digest for digest, each in links.items() if digest not in children and not each.subject]
        self._mark_live(live, [*self.policy.kept_untagged(self._candidates(tops), ages.now)])
        referrers = [(digest, each.subject) for digest, each in links.items() if each.subject]
        self._mark_live(live, [digest for digest, subject in referrers if self._stays_with(subject, live)])

    def _candidates(self, digests: Iterable[str]) -> list[Candidate]:
        return [
            Candidate(digest, self._age("manifests", digest) or 0.0, self._pulled(_file(digest)))
            for digest in digests
        ]

    def _dead_manifests(self, live: set[str]) -> list[str]:
        """Referrers before what they refer to: cut short, the next collection finds the same."""
        dead = self.manifests - live
        return sorted(dead, key=lambda digest: (self._links[digest].subject is None, digest))

    def _dead_blobs(self, live: set[str], limit: float) -> list[str]:
        return sorted(digest for digest in self.blobs - live if self._is_old("blobs", digest, limit))

    def _age(self, kind: str, digest: str) -> float | None:
        return self._modified(f"{self.folder}/{kind}/{_file(digest)}")

    def _modified(self, key: str) -> float | None:
        found = self.pool.objects.look(key)
        return None if found is None else found.modified

    def _is_old(self, kind: str, digest: str, limit: float) -> bool:
        age = self._age(kind, digest)
        return age is not None and age < limit

    def _read_tags(self) -> dict[str, TagRecord]:
        # What is deleted meanwhile, and what is no object, no reader takes for a tag either.
        return {
            name: self._read_tag(name, content)
            for name, content in self.pool.objects.contents(f"{self.folder}/tags")
        }

    def _read_tag(self, name: str, content: bytes) -> TagRecord:
        record = records.decoded(content, records.tag_from_json)
        if record is None:
            raise StoreDamaged(
                f"{self.name}:{name}: the tag cannot be read; sync or push it again, "
                f"or remove {self.pool.objects.where}/{self.folder}/tags/{name}"
            )
        return record

    def _read_links(self, digest: str) -> Links:
        found = Digest(digest)
        body = self.pool.read(found)
        if body is None and self.pool.restore(found):
            body = self.pool.read(found)
        state = "missing" if body is None else "damaged"
        if body is None or Digest.of(body, found.algorithm) != digest:
            if self.pool.objects.look(f"{self.folder}/manifests/{_file(digest)}") is None:
                return Links()  # deleted a moment ago
            raise StoreDamaged(
                f"{self.name}@{digest}: the manifest is {state}, so what it needs is unknown; "
                "repair it with `mirrorflow store scrub`, push it again, or delete it"
            )
        return links_in(body)


def links_in(body: bytes) -> Links:
    """The digests that a manifest names, wherever manifests of any kind name them. No validation."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Links(size=len(body))
    if not isinstance(document, dict):
        return Links(size=len(body))
    needs = [_digest(document.get("config"))]
    for key in _LISTS:
        found = document.get(key)
        needs += [_digest(item) for item in found] if isinstance(found, list) else []
    return Links(
        tuple({each for each in needs if each}),
        _digest(document.get("subject")),
        len(body),
        isinstance(document.get("manifests"), list) and not any(map(_runs_somewhere, document["manifests"])),
    )


def _runs_somewhere(entry: Any) -> bool:
    """As `companion_tags.runs_somewhere`, without validation."""
    platform = entry.get("platform") if isinstance(entry, dict) else None
    return isinstance(platform, dict) and platform.get("os") not in (None, "", "unknown")


def _digest(descriptor: Any) -> str | None:
    found = descriptor.get("digest") if isinstance(descriptor, dict) else None
    return found if isinstance(found, str) else None


def digests_in(objects: Objects, folder: str) -> set[Digest]:
    return {digest for name in objects.names(folder).objects if (digest := digest_of(name))}


def _file(digest: str) -> str:
    return file_name(Digest(digest))
