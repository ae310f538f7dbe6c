"""All destinations of a registry entry, written to as one.

The first is fed by the upstream, and the others by the first: each blob is downloaded once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.model.destination import STORE
from registry_server.store.mirror_state.ledger import open_ledger
from tasks.destinations.interface import TagKept
from tasks.destinations.store import StoreDestination
from tasks.upstream.login.identities.choice import credentials_for

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.store import Store
    from tasks.destinations.interface import Feed
    from tasks.destinations.registry import RegistryDestination
    from tasks.upstream.login.credentials import Credentials

log = logging.getLogger("mirrorflow.run")


@dataclass(frozen=True, slots=True)
class Targets:
    """`remark` takes what the reader of the report should know."""

    primary: StoreDestination | RegistryDestination
    others: tuple[RegistryDestination, ...]
    remark: Callable[[str], None]

    @property
    def registries(self) -> tuple[RegistryDestination, ...]:
        """Those that are not the store."""
        first = () if isinstance(self.primary, StoreDestination) else (self.primary,)
        return (*first, *self.others)

    @property
    def has_store(self) -> bool:
        return isinstance(self.primary, StoreDestination)

    def holds(self, local: RepositoryName, blob: Descriptor) -> bool:
        """Whether all of them do. What is not known of one costs no request."""
        return self.primary.holds(local, blob) and all(each.holds(local, blob) for each in self.others)

    def bring(self, local: RepositoryName, blob: Descriptor, feed: Feed) -> None:
        """Raises what `Destination.bring` does, of the first one that fails."""
        self.primary.bring(local, blob, feed)
        for each in self.others:
            each.bring(local, blob, lambda sink: self.primary.read(local, blob, sink))

    def put_manifest(
        self,
        local: RepositoryName,
        manifest: Manifest,
        digest: Digest,
        *,
        tag_follows: bool = False,
        partial: bool = False,
        spare: bool = False,
    ) -> None:
        """`tag_follows`: `put_tag` puts it too, so another registry needs no request of its own for it.

        `partial`: an index whose smaller form is put too. The store keeps it; other registries refuse it.
        `spare`: what a converted manifest was made from. A registry may refuse it for its type.
        """
        for each in (self.primary, *self.others):
            if isinstance(each, StoreDestination):
                each.put_manifest(local, manifest, digest)
            elif partial:
                each.remember_manifest(local, manifest, digest)
            elif not tag_follows:
                each.put_manifest(local, manifest, digest, spare=spare)

    def put_tag(
        self,
        local: RepositoryName,
        tag: Tag,
        record: TagRecord,
        manifest: Manifest,
        *,
        kept: Container[str] = (),
    ) -> None:
        """Make an image visible. `kept`: destinations in which somebody else has set the tag.

        Raises `TagKept` of the first destination; what the others keep is remarked.
        """
        self.primary.put_tag(local, tag, record, manifest)
        for each in self.others:
            if each.name in kept:
                continue
            try:
                each.put_tag(local, tag, record, manifest)
            except TagKept as reason:
                self.remark(f"{local}:{tag} {reason}")

    def requests(self) -> dict[str, int]:
        """What the registries among them were asked so far: "ecr: PUT manifest" -> n."""
        return {
            f"{each.name}: {kind}": number
            for each in self.registries
            for kind, number in each.registry.requests().items()
        }

    def close(self) -> None:
        for each in self.registries:
            each.registry.close()


def open_targets(
    profile: Profile,
    entry: RegistryEntry,
    store: Store,
    credentials: Credentials,
    *,
    cancelled: Callable[[], bool],
    remark: Callable[[str], None],
    only_store: bool = False,
) -> Targets:
    """Those that `entry` names in `to`; the store is the first where it is one of them.

    `only_store`: for what is about the store alone. Raises `StoreError`, `DestinationFailed`.
    """
    in_store = StoreDestination(store, cancelled)
    if only_store:
        return Targets(in_store, (), remark)

    registries = [
        open_registry(profile, name, store, credentials, entry=entry.name, cancelled=cancelled, remark=remark)
        for name in entry.to
        if name != STORE
    ]
    if STORE in entry.to:
        return Targets(in_store, tuple(registries), remark)
    first, *others = registries
    return Targets(first, tuple(others), remark)


def open_registry(
    profile: Profile,
    name: str,
    store: Store,
    credentials: Credentials,
    *,
    entry: str,
    cancelled: Callable[[], bool] = lambda: False,
    remark: Callable[[str], None] = log.info,
) -> RegistryDestination:
    """The destination `name` of the profile, for a registry entry. Raises as `open_targets` does.

    What pushes is imported where there is such a destination.
    """
    from tasks.destinations.creating import creator_for
    from tasks.destinations.registry import RegistryDestination
    from tasks.upstream.push.registry import PushRegistry

    settings = profile.destination(name)
    ledger = open_ledger(store.root, settings.ledger, profile.storage.durability)
    ours = credentials_for(settings, credentials, write=True)
    registry = PushRegistry(settings, ours, chunk=settings.chunk_size, cancelled=cancelled, remark=remark)
    return RegistryDestination(settings, entry, registry, ledger, creator_for(settings))
