"""Bundles applied in this process, and bundles that a signer whom the far side trusts has changed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from profiles.loader import load_profile
from registry_server.bundles.create import BundleRequest, write_bundle
from registry_server.bundles.inventory import take_inventory
from registry_server.bundles.reading import Bundle
from registry_server.bundles.state import Issued, last_applied, note_issued
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from tasks.stored.bundles.applying import Applying, apply_bundle
from tasks.stored.bundles.statements import BUNDLE, Trusted, _statement, sign_bundle
from tasks.trust.sigstore.key_signing import SigningKey
from tests.tasks.stored.bundles.times import clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry_server.bundles.document import BundleDocument
    from registry_server.bundles.inventory import Inventory
    from registry_server.bundles.state import AppliedBundle
    from registry_server.store.repository import Repository
    from tests.tasks.stored.bundles.sides import Gap, Side

APP = RepositoryName("team/app")
PROFILE = "0" * 64


def bundled(sides: Gap, name: str = "bundle", **options: Any) -> Path:
    """A bundle of what the near side has."""
    key = SigningKey(sides.near.key)

    def sign(document: BundleDocument, body: bytes) -> bytes:
        return sign_bundle(key, document, body)

    folder = sides.carried / name
    write_bundle(sides.near.store, folder, BundleRequest(PROFILE, **options), clock(), sign)
    return folder


def inventory_of(side: Side) -> Inventory:
    """What it holds, given out and remembered."""
    store = side.store
    found, last = take_inventory(store, clock()), last_applied(store)
    note_issued(store, Issued(found.id, found.taken, last.bundle if last else ""))
    return found


def applied(side: Side, folder: Path) -> AppliedBundle:
    """As `mirrorflow bundle apply` does it, without the check of every byte."""
    profile = load_profile(side.profile).profile
    trusted = Trusted.of(profile)
    with Bundle.open(folder, lambda digest: trusted.check_bundle(folder, digest)) as bundle:
        return apply_bundle(profile, side.store, bundle, Applying("tester@here", "near", clock))


def reasons(found: AppliedBundle) -> dict[str, str]:
    """Why which image was refused."""
    return {each.image: each.reason for each in found.refused}


def resigned(sides: Gap, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The bundle with a changed document, signed by the near side's key again."""
    path = folder / "bundle.json"
    document = json.loads(path.read_bytes())
    change(document)
    body = json.dumps(document).encode()
    path.write_bytes(body)
    statement = _statement("bundle.json", Digest.of(body), BUNDLE, {})
    (folder / "bundle.sigstore.json").write_bytes(SigningKey(sides.near.key).bundle(statement))
    return folder


def in_tar(folder: Path, old: bytes, new: bytes) -> str:
    """Put other bytes of the same length into the tar; its new SHA-256."""
    path = folder / "bundle.tar"
    body = path.read_bytes()
    assert len(old) == len(new)
    assert old in body
    path.write_bytes(body.replace(old, new))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def near(sides: Gap) -> Repository:
    return sides.near.store.repository(APP)


def far(sides: Gap) -> Repository:
    return sides.far.store.repository(APP)


def tags(sides: Gap) -> set[str]:
    return set(sides.far.digests())
