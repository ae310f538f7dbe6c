"""What is said over an air gap, as signed in-toto statements: what a bundle holds, what a store holds.

A statement about a bundle stands beside it, and its subject is `bundle.json`. An inventory, and a receipt,
which is an inventory with what became of a bundle, are in the statement themselves: the subject is the
inventory as `Inventory.id` has it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from registry_server.bundles.errors import BundleInvalid
from registry_server.bundles.inventory import Inventory
from registry_server.bundles.parts import DOCUMENT, SIGNATURE, read_small
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from tasks.trust.candidates import SigningTarget, SigstoreBundle
from tasks.trust.errors import Refused
from tasks.trust.formats.signature_bundle import LARGEST_BUNDLE, read_bundle
from tasks.trust.formats.texts import json_object

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.bundles.document import BundleDocument
    from registry_server.bundles.state import AppliedBundle
    from tasks.trust.policy import Authority

STATEMENT: Final = "https://in-toto.io/Statement/v1"
BUNDLE: Final = "https://mirrorflow.example/bundle/v1"
INVENTORY: Final = "https://mirrorflow.example/inventory/v1"
RECEIPT: Final = "https://mirrorflow.example/receipt/v1"


class NotTrusted(MirrorflowError):
    """Nobody whom the profile trusts has signed it."""


class StatementTooLarge(MirrorflowError):
    """It would be larger than what is read."""


class StatementSigner(Protocol):
    """Signs an in-toto statement; the answer is a Sigstore bundle (JSON)."""

    def bundle(self, statement: bytes) -> bytes: ...


def sign_bundle(signer: StatementSigner, document: BundleDocument, body: bytes) -> bytes:
    """The statement about a bundle whose `bundle.json` is `body`. Raises what the signer raises."""
    base = document.base
    predicate = {
        "created": document.created,
        "store": document.store,
        "base": base and {"inventory": base.inventory, "store": base.store, "taken": base.taken},
        "images": len(document.images),
        "contents": len(document.contents),
        "parts": [{"name": each.name, "digest": {"sha256": each.sha256}} for each in document.parts],
    }
    return signer.bundle(_statement(DOCUMENT, Digest.of(body), BUNDLE, predicate))


def sign_inventory(
    signer: StatementSigner, inventory: Inventory, applied: AppliedBundle | None = None
) -> bytes:
    """An inventory; with what became of a bundle a receipt. Raises `StatementTooLarge`, and what the signer
    raises.
    """
    predicate: dict[str, Any] = {"inventory": inventory.to_json()}
    if applied is not None:
        predicate["bundle"] = applied.to_json()
    kind = RECEIPT if applied else INVENTORY
    signed = signer.bundle(_statement("inventory", inventory.id, kind, predicate))
    if len(signed) > LARGEST_BUNDLE:
        raise StatementTooLarge(
            f"the store holds {len(inventory.contents)} contents, and their list is larger than the "
            f"{LARGEST_BUNDLE >> 20} MiB that are read; create a bundle without --for"
        )
    return signed


def _statement(name: str, digest: Digest, kind: str, predicate: dict[str, Any]) -> bytes:
    """in-toto attestation framework, spec/v1/statement.md."""
    document = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {digest.algorithm: digest.hex}}],
        "predicateType": kind,
        "predicate": predicate,
    }
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class SignedInventory:
    """What the other side says that it holds; `who` signed it.

    `refused`: of a receipt, the images that were not taken, and why.
    """

    inventory: Inventory
    who: str
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whoever may sign for the other side."""

    authorities: tuple[Authority, ...] = field(repr=False)

    @classmethod
    def of(cls, profile: Profile) -> Trusted:
        """Raises `NotTrusted` where the profile names nobody, `TrustBroken`."""
        if profile.bundles is None:
            raise NotTrusted(
                "the profile trusts nobody on the other side: write 'bundles: {from: [{name: other, type: "
                "key, key: other}]}', and the key 'other' into 'trust.keys'"
            )
        from tasks.trust.compiling import Policies

        policies = Policies(profile.trust, profile.verify)
        return cls(tuple(policies.authority(signer) for signer in profile.bundles.from_))

    def check_bundle(self, folder: Path, digest: Digest) -> str:
        """Who has signed that this is the document of a bundle. Raises `NotTrusted`, `BundleError`."""
        signature = read_small(folder, SIGNATURE, LARGEST_BUNDLE)
        who, _ = self._check(signature, digest, {BUNDLE}, f"the bundle in {folder}")
        return who

    def read_inventory(self, path: Path) -> SignedInventory:
        """An inventory or a receipt. Raises `NotTrusted`, `BundleError`."""
        signed = read_small(path.parent, path.name, LARGEST_BUNDLE)
        digest = _claimed_digest(signed, path)
        who, predicate = self._check(signed, digest, {INVENTORY, RECEIPT}, str(path))
        return SignedInventory(Inventory.parse(_inventory_in(predicate, path)), who, _refused_in(predicate))

    def _check(self, signed: bytes, digest: Digest, kinds: set[str], what: str) -> tuple[str, dict[str, Any]]:
        """Who signed it, and the predicate."""
        refusals = []
        for authority in self.authorities:
            try:
                found = authority.check(SigstoreBundle(what, signed), SigningTarget(digest, ""))
            except Refused as error:
                refusals.append(f"{authority.name}: {error}")
                continue
            if found.predicate_type not in kinds or found.statement is None:
                raise NotTrusted(
                    f"{what}: the signed statement is a {found.predicate_type}, and needed is a "
                    f"{' or '.join(sorted(kinds))}"
                )
            return f"{found.who} ({authority.name})", _object(found.statement.get("predicate"), what)
        raise NotTrusted(
            f"{what}: nobody whom 'bundles.from' of the profile names has signed it: {'; '.join(refusals)}"
        )


def _claimed_digest(signed: bytes, path: Path) -> Digest:
    """The subject of a statement that has yet to be verified: computed from what it is about."""
    try:
        envelope = read_bundle(signed).envelope
        if envelope is None:
            raise Refused("it holds no statement")
        document = json_object(envelope.payload, "the statement")
    except Refused as error:
        raise BundleInvalid(f"{path} is no inventory and no receipt: {error}") from error
    predicate = _object(document.get("predicate"), str(path))
    return Inventory.parse(_inventory_in(predicate, path)).id


def _inventory_in(predicate: dict[str, Any], path: Path) -> dict[str, Any]:
    return _object(predicate.get("inventory"), str(path))


def _refused_in(predicate: dict[str, Any]) -> dict[str, str]:
    """What a receipt says; nothing where it does not have that form: it is for people alone."""
    bundle = predicate.get("bundle")
    listed = bundle.get("refused") if isinstance(bundle, dict) else None
    rows = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return {
        name: why
        for each in rows
        if isinstance(name := each.get("image"), str) and isinstance(why := each.get("reason"), str)
    }


def _object(found: Any, what: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BundleInvalid(f"{what} does not have the form of a statement of mirrorflow")
    return found
