"""Making a bundle from what a store serves: first what comes into it, then its bytes, part by part.

Killed at any time, the next call with the same options goes on with the first part that is not whole. What
the bundle holds was decided when it was begun; it does not follow tags that move meanwhile.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from registry_server.bundles.closure import StoredClosure
from registry_server.bundles.document import BundleBase, BundledImage, BundleDocument, Content
from registry_server.bundles.document_reading import parse_document
from registry_server.bundles.errors import BundleInvalid, BundleUnwritable
from registry_server.bundles.inventory import canonical
from registry_server.bundles.parts import BundleFolder, as_parts
from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError, NotFound
from registry_server.oci.reference import RepositoryName
from registry_server.store.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from registry_server.bundles.inventory import Inventory
    from registry_server.bundles.tar_stream import Segment
    from registry_server.oci.reference import Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.store import Store

SMALLEST_SPLIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """What a bundle is to be. `profile` is the SHA-256 of the profile's file, in hex.

    `patterns` choose repositories, which `wanted` compares with them. `inventory`: what the other side holds,
    None for a bundle with everything. `again`: also what the other side refused before, unchanged.
    """

    profile: str
    inventory: Inventory | None = None
    patterns: Sequence[str] = ()
    wanted: Callable[[str], bool] = lambda _: True
    split: int = 0
    again: bool = False

    def identity(self, store: Store) -> Digest:
        """Equal for requests for the same bundle."""
        base = self.inventory.id if self.inventory else None
        return Digest.of(
            canonical(
                {
                    "store": store.uuid,
                    "profile": self.profile,
                    "base": base,
                    "patterns": sorted(self.patterns),
                    "split": self.split,
                    "again": self.again,
                }
            )
        )


@dataclass(frozen=True)
class BundlePlan:
    """The document of a bundle without its parts, and a repository that holds each of its contents."""

    document: BundleDocument
    holders: tuple[RepositoryName, ...]

    def holder(self, content: Content) -> RepositoryName:
        """A repository that holds it."""
        return self._by_digest[content.digest]

    @cached_property
    def _by_digest(self) -> dict[Digest, RepositoryName]:
        digests = (each.digest for each in self.document.contents)
        return dict(zip(digests, self.holders, strict=True))

    def encoded(self, identity: Digest) -> bytes:
        body = {"request": identity, "holders": self.holders, "document": self.document.encoded().decode()}
        return json.dumps(body).encode()

    @classmethod
    def parse(cls, content: bytes, identity: Digest, folder: Path) -> BundlePlan:
        """Raises `BundleUnwritable` for a plan of another request, or one that cannot be read."""
        other = BundleUnwritable(
            f"{folder} holds a bundle that was begun and not finished, with other options or for another "
            "inventory: delete it, or name another folder with --out"
        )
        try:
            body = json.loads(content)
            if body["request"] != identity:
                raise other
            document = parse_document(body["document"].encode(), planned=True)
            holders = tuple(RepositoryName(each) for each in body["holders"])
        except (LookupError, TypeError, ValueError, AttributeError, BundleInvalid) as error:
            raise other from error
        return cls(document, holders)


def plan_bundle(store: Store, request: BundleRequest, created: str) -> BundlePlan:
    """What a bundle made now would hold. Raises `StoreError`, `BundleUnwritable`."""
    planning = _Planning(store, request)
    for name in store.repositories():
        if request.wanted(name):
            planning.add(name)
    inventory = request.inventory
    base = BundleBase(inventory.id, inventory.store, inventory.taken) if inventory else None
    contents = sorted(planning.contents.values(), key=lambda each: (not each.media_type, each.digest))
    document = BundleDocument(
        created=created,
        store=store.uuid,
        profile=request.profile,
        base=base,
        images=tuple(planning.images),
        referrers=planning.referrers,
        contents=tuple(contents),
        reports=_last_reports(store),
        left_out=planning.left_out,
        split=request.split,
    )
    return BundlePlan(document, tuple(planning.holders[each.digest] for each in contents))


@dataclass(slots=True)
class _Planning:
    store: Store
    request: BundleRequest
    images: list[BundledImage] = field(default_factory=list)
    contents: dict[Digest, Content] = field(default_factory=dict)
    holders: dict[Digest, RepositoryName] = field(default_factory=dict)
    referrers: dict[RepositoryName, tuple[Digest, ...]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, name: RepositoryName) -> None:
        """What the other side lacks of one repository."""
        repository = self.store.repository(name)
        records = dict(sorted(repository.tag_records().items()))
        closure = StoredClosure(repository)
        chosen: set[Digest] = set()
        followers = {tag: record for tag, record in records.items() if is_companion_tag(tag)}
        for tag, record in records.items():
            if tag not in followers:
                found = self._digests(closure, name, tag, record)
                image = BundledImage(name, tag, record, _members(closure, found, followers))
                if self._is_wanted(image, found):
                    self.images.append(image)
                    chosen |= found
        chosen |= self._add_followers(closure, name, followers, chosen)
        self._add_contents(closure, name, chosen)

    def _digests(self, closure: StoredClosure, name: str, tag: Tag, record: TagRecord) -> set[Digest]:
        try:
            return closure.add(record)
        except MirrorflowError as error:
            raise BundleUnwritable(
                f"{name}:{tag} is not whole in this store ({error}); 'mirrorflow store scrub' fetches what "
                "it lacks"
            ) from error

    def _is_wanted(self, image: BundledImage, found: set[Digest]) -> bool:
        inventory = self.request.inventory
        if inventory is None:
            return True
        if inventory.refused.get(image.name) == image.members and not self.request.again:
            self.left_out[image.name] = "the other side refused it, and nothing of it has changed"
            return False
        return not inventory.holds(image.name, image.record.digest) or not found <= inventory.contents

    def _add_followers(
        self,
        closure: StoredClosure,
        name: RepositoryName,
        followers: dict[Tag, TagRecord],
        chosen: set[Digest],
    ) -> set[Digest]:
        """Companions that stand under tags of their own, of what is there or comes along."""
        inventory, added = self.request.inventory, set[Digest]()
        for tag, record in followers.items():
            subject = subject_of(tag)
            there = inventory is not None and subject in inventory.contents
            if subject not in chosen and not there:
                continue
            found = self._digests(closure, name, tag, record)
            held = inventory is not None and inventory.holds(f"{name}:{tag}", record.digest)
            if not held or (inventory is not None and not found <= inventory.contents):
                self.images.append(BundledImage(name, tag, record, _members(closure, found, {})))
                added |= found
        return added

    def _add_contents(self, closure: StoredClosure, name: RepositoryName, chosen: set[Digest]) -> None:
        """All manifests, so that the other side can read what it gets; of blobs those that it lacks."""
        held = self.request.inventory.contents if self.request.inventory else frozenset[str]()
        for digest in chosen:
            content = closure.manifests.get(digest) or closure.blobs[digest]
            if content.media_type or digest not in held:
                self.contents[digest] = content
                self.holders[digest] = name
        subjects = sorted(digest for digest in chosen if digest in closure.subjects)
        if subjects:
            self.referrers[name] = tuple(subjects)


def _members(closure: StoredClosure, found: set[Digest], followers: dict[Tag, TagRecord]) -> Digest:
    manifests = {digest for digest in found if digest in closure.manifests}
    tagged = {record.digest for tag, record in followers.items() if subject_of(tag) in manifests}
    return Digest.of("\n".join(sorted(manifests | tagged)).encode())


def _last_reports(store: Store) -> tuple[dict[str, Any], ...]:
    """Of the last run over each whole registry entry."""
    last = {str(each.get("registry")): each for each in store.reports.load_all() if not each.get("only")}
    return tuple(last[name] for name in sorted(last))


def write_bundle(
    store: Store,
    folder: Path,
    request: BundleRequest,
    created: str,
    sign: Callable[[BundleDocument, bytes], bytes],
    *,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> BundleDocument:
    """Make a bundle in `folder`, or go on with the one that was begun there; without images none is made.

    `sign` makes the signed statement about the document, of which it gets the bytes as well. `told` is called
    with the bytes that are written, and with all of them. Raises `BundleUnwritable`, `StoreError`, and what
    `sign` raises.
    """
    target = BundleFolder(folder)
    if target.is_complete:
        raise BundleUnwritable(f"{folder} holds a bundle already: name another folder with --out")
    with store.lease(), target.claim():
        plan = _begin(store, target, request, created)
        if not plan.document.images:
            return plan.document
        expected, finished = plan.document.expected_parts, target.finished()
        writing, start = _Writing(store, plan), 0
        for name, size in expected:
            if name not in finished or not _is_whole(folder / name, size):
                part = target.write_part(name, size, writing.pieces(start, size))
                finished[name] = part.sha256
            start += size
            told(start, plan.document.tar.size)
    document = replace(plan.document, parts=tuple(as_parts(finished, expected)))
    body = document.encoded()
    target.finish(document.parts, body, sign(document, body))
    return document


def _begin(store: Store, target: BundleFolder, request: BundleRequest, created: str) -> BundlePlan:
    identity = request.identity(store)
    kept = target.plan
    if kept is not None:
        return BundlePlan.parse(kept, identity, target.path)
    plan = plan_bundle(store, request, created)
    if plan.document.images:
        target.forget_parts()
        target.put_plan(plan.encoded(identity))
    return plan


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


@dataclass(frozen=True, slots=True)
class _Writing:
    store: Store
    plan: BundlePlan

    def pieces(self, start: int, length: int) -> Iterator[bytes]:
        """So many bytes of the tar from the byte `start` on. Raises `StoreError`."""
        for segment in self.plan.document.tar.segments(start):
            for piece in self._segment(segment):
                taken = piece[:length]
                length -= len(taken)
                yield taken
                if not length:
                    return

    def _segment(self, segment: Segment) -> Iterator[bytes]:
        if segment.known is not None:
            yield segment.known
            return
        fixed = self.plan.document.fixed_content(segment.number)
        if fixed is not None:
            yield fixed[segment.skipped :]
            return
        yield from self._content(segment)

    def _pieces(self, content: Content) -> Iterator[bytes]:
        """Raises `BundleUnwritable` for what the collector has had since the bundle was begun."""
        holder = self.store.repository(self.plan.holder(content))
        try:
            yield from holder.find_blob(content.digest).pieces()
        except (NotFound, FileNotFoundError) as error:
            raise BundleUnwritable(
                f"{content.digest}, which {holder.name} had when the bundle was begun, is not in the store "
                "any more: delete the unfinished bundle, and create it anew"
            ) from error

    def _content(self, segment: Segment) -> Iterator[bytes]:
        """From the byte `skipped` on; all of it is hashed, and nothing follows on what is damaged."""
        content = self.plan.document.content(segment.number)
        hasher, skipped, size = hashlib.new(content.digest.algorithm), segment.skipped, 0
        for piece in self._pieces(content):
            hasher.update(piece)
            size += len(piece)
            if size == content.size:
                self._check(hasher.hexdigest(), content)
            if skipped < len(piece):
                yield piece[skipped:]
            skipped = max(0, skipped - len(piece))
        if size != content.size:
            self._check("", content)

    def _check(self, found: str, content: Content) -> None:
        if found != content.digest.hex:
            raise StoreDamaged(
                f"{content.digest} is damaged in the store: `mirrorflow store scrub` fetches it again; then "
                "the next 'bundle create' goes on"
            )
