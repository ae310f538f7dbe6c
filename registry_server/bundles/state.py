"""What a store remembers of bundles: the inventories that were given out, and the bundles that were applied.

Small files, `bundles/issued/<hex>.json` and `bundles/applied/<hex>.json`, in the main storage root.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.digest import Digest
from registry_server.store import records
from registry_server.store.errors import translated
from registry_server.store.objects.objects import content_of

if TYPE_CHECKING:
    from registry_server.store.objects.objects import Objects
    from registry_server.store.store import Store

ROLE: Final = "bundle"
"""The role that a process claims in the store while it applies a bundle."""
_FOLDER: Final = "bundles"


@dataclass(frozen=True, slots=True)
class Issued:
    """An inventory that was given out. `after`: the bundle that had been applied last, "" for none."""

    inventory: Digest
    taken: str
    after: str

    def to_json(self) -> dict[str, Any]:
        return {"inventory": self.inventory, "taken": self.taken, "after": self.after}


@dataclass(frozen=True, slots=True)
class NotTaken:
    """An image of a bundle that was refused. `members` as of `BundledImage`."""

    image: str
    digest: Digest
    members: Digest
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "digest": self.digest,
            "members": self.members,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class AppliedBundle:
    """A bundle that was applied, or begun: then `finished` is "".

    `created` and `source` are the bundle's own words, `signed_by` who vouches for them. `applied` are images
    with their digests.
    """

    bundle: Digest
    created: str
    source: str
    signed_by: str
    begun: str
    by: str
    finished: str = ""
    applied: dict[str, str] = field(default_factory=dict)
    refused: tuple[NotTaken, ...] = ()
    verdicts: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "bundle": self.bundle,
            "created": self.created,
            "source": self.source,
            "signedBy": self.signed_by,
            "begun": self.begun,
            "by": self.by,
            "finished": self.finished,
            "applied": dict(self.applied),
            "refused": [each.to_json() for each in self.refused],
            "verdicts": dict(self.verdicts),
        }


@translated
def note_issued(store: Store, issued: Issued) -> None:
    """Raises `StoreError`."""
    _write(store, "issued", issued.inventory, issued.to_json())


@translated
def find_issued(store: Store, inventory: Digest) -> Issued | None:
    """Raises `StoreError`."""
    return records.decoded(content_of(_objects(store), _key("issued", inventory)), _issued)


@translated
def note_applied(store: Store, applied: AppliedBundle) -> None:
    """Raises `StoreError`."""
    _write(store, "applied", applied.bundle, applied.to_json())
    _objects(store).settle()


@translated
def last_applied(store: Store, *, source: str | None = None) -> AppliedBundle | None:
    """The one that was begun last, of all or of one `source`; None: there was none. Raises `StoreError`."""
    contents = _objects(store).contents(f"{_FOLDER}/applied")
    found = (records.decoded(content, _applied) for _, content in contents)
    wanted = (each for each in found if each is not None and source in (None, each.source))
    return max(wanted, key=lambda each: each.begun, default=None)


def _issued(body: Any) -> Issued:
    return Issued(Digest(body["inventory"]), str(body["taken"]), str(body["after"]))


def _applied(body: Any) -> AppliedBundle:
    return AppliedBundle(
        bundle=Digest(body["bundle"]),
        created=str(body["created"]),
        source=str(body["source"]),
        signed_by=str(body["signedBy"]),
        begun=str(body["begun"]),
        by=str(body["by"]),
        finished=str(body["finished"]),
        applied={str(name): str(digest) for name, digest in body["applied"].items()},
        refused=tuple(
            NotTaken(str(each["image"]), Digest(each["digest"]), Digest(each["members"]), str(each["reason"]))
            for each in body["refused"]
        ),
        verdicts={str(name): str(said) for name, said in body["verdicts"].items()},
    )


def _write(store: Store, kind: str, name: Digest, document: dict[str, Any]) -> None:
    _objects(store).put(_key(kind, name), json.dumps(document, indent=1).encode() + b"\n")


def _key(kind: str, name: Digest) -> str:
    return f"{_FOLDER}/{kind}/{name.algorithm}-{name.hex}.json"


def _objects(store: Store) -> Objects:
    return store.roots[0].objects
