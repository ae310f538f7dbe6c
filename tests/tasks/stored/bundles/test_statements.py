"""Who signed what is carried, and that one statement is not taken for another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from profiles.errors import ProfileInvalid
from profiles.loader import load_profile
from registry_server.bundles.errors import BundleError, BundleIncomplete, BundleInvalid, BundleTooNew
from registry_server.bundles.inventory import Inventory
from registry_server.bundles.state import last_applied
from registry_server.oci.digest import Digest
from tasks.stored.bundles.statements import (
    BUNDLE,
    INVENTORY,
    NotTrusted,
    StatementTooLarge,
    Trusted,
    _statement,
    sign_inventory,
)
from tasks.trust.sigstore.key_signing import SigningKey
from tasks.trust.sigstore.keyless_signing import TOKEN, KeylessSigner
from tests.tasks.stored.bundles.applying import applied, bundled, inventory_of
from tests.tasks.stored.bundles.sides import Gap, gap
from tests.tasks.trust.sigstore.sigstore_services import identity_token, running_services
from tests.tasks.trust.world import ISSUER, SUBJECT

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = Inventory("a store", "2026-01-02T03:04:05.000006+00:00", {}, frozenset())


@pytest.fixture
def sides(tmp_path: Path) -> Gap:
    return gap(tmp_path)


def trusted(sides: Gap) -> Trusted:
    """Whom the near side trusts: the far one's key."""
    return Trusted.of(load_profile(sides.near.profile).profile)


def signed_inventory(sides: Gap, predicate: Any, kind: str = INVENTORY, digest: Digest = EMPTY.id) -> Path:
    path = sides.carried / "inventory.json"
    path.write_bytes(SigningKey(sides.far.key).bundle(_statement("inventory", digest, kind, predicate)))
    return path


def test_an_inventory_is_read_as_it_was_signed(sides: Gap) -> None:
    sides.far.put("team/app:v1", b"layer")
    made = inventory_of(sides.far)
    path = sides.carried / "inventory.json"
    path.write_bytes(sign_inventory(SigningKey(sides.far.key), made))
    found = trusted(sides).read_inventory(path)
    assert found.inventory == made
    assert found.inventory.id == made.id
    assert found.who.endswith("(other)")


def test_a_receipt_is_an_inventory_that_says_what_became_of_a_bundle(sides: Gap) -> None:
    sides.near.put("team/app:v1", b"layer")
    applied(sides.far, bundled(sides))
    path = sides.carried / "receipt.json"
    last = last_applied(sides.far.store)
    path.write_bytes(sign_inventory(SigningKey(sides.far.key), inventory_of(sides.far), last))
    assert list(trusted(sides).read_inventory(path).inventory.images) == ["team/app:v1"]


def test_what_somebody_else_signed_does_not_count(sides: Gap) -> None:
    path = sides.carried / "inventory.json"
    path.write_bytes(sign_inventory(SigningKey(sides.near.key), EMPTY))
    with pytest.raises(NotTrusted, match=r"nobody whom 'bundles\.from' .* names has signed it: other"):
        trusted(sides).read_inventory(path)


def test_a_statement_about_a_bundle_is_no_inventory(sides: Gap) -> None:
    path = signed_inventory(sides, {"inventory": EMPTY.to_json()}, kind=BUNDLE)
    with pytest.raises(NotTrusted, match="needed is a"):
        trusted(sides).read_inventory(path)


def test_an_inventory_is_no_statement_about_a_bundle(sides: Gap) -> None:
    """It was signed for another subject."""
    sides.near.put("team/app:v1", b"layer")
    folder = bundled(sides)
    (folder / "bundle.sigstore.json").write_bytes(sign_inventory(SigningKey(sides.near.key), EMPTY))
    with pytest.raises(NotTrusted, match="the statement is about another image"):
        applied(sides.far, folder)


def test_a_bundle_without_its_signature_is_incomplete(sides: Gap) -> None:
    sides.near.put("team/app:v1", b"layer")
    folder = bundled(sides)
    (folder / "bundle.sigstore.json").unlink()
    with pytest.raises(BundleIncomplete, match=r"bundle\.sigstore\.json: No such file"):
        applied(sides.far, folder)


@pytest.mark.parametrize(
    ("predicate", "error", "words"),
    [
        pytest.param({}, BundleInvalid, "does not have the form", id="nothing in it"),
        pytest.param({"inventory": []}, BundleInvalid, "does not have the form", id="a list"),
        pytest.param({"inventory": {"version": 2}}, BundleTooNew, "format version 2", id="a later version"),
        pytest.param(
            {"inventory": EMPTY.to_json() | {"contents": ["sha256:../.."]}},
            BundleInvalid,
            "is not a digest",
            id="a digest that is a path",
        ),
        pytest.param(
            {"inventory": EMPTY.to_json() | {"contents": [Digest.of(b"")] * 2}},
            BundleInvalid,
            "lists a content twice",
            id="a content twice",
        ),
        pytest.param(
            {"inventory": EMPTY.to_json() | {"store": "another"}},
            NotTrusted,
            "another image",
            id="another subject",
        ),
    ],
)
def test_an_inventory_that_is_not_one_is_refused(
    sides: Gap, predicate: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        trusted(sides).read_inventory(signed_inventory(sides, predicate))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"mediaType": "a/b"}'])
def test_a_file_that_holds_no_statement_is_refused(sides: Gap, content: bytes) -> None:
    path = sides.carried / "inventory.json"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="is no inventory and no receipt"):
        trusted(sides).read_inventory(path)


def test_an_inventory_that_nobody_could_read_is_not_written() -> None:
    class Signs:
        def bundle(self, statement: bytes) -> bytes:
            return statement + bytes(33 * 2**20)

    with pytest.raises(StatementTooLarge, match="create a bundle without --for"):
        sign_inventory(Signs(), EMPTY)


def test_a_profile_that_trusts_nobody_says_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"storage": {"rootDirectory": "store"}}))
    with pytest.raises(NotTrusted, match=r"write 'bundles: \{from:"):
        Trusted.of(load_profile(path).profile)


@pytest.mark.parametrize(
    ("bundles", "words"),
    [
        pytest.param({"from": []}, "bundles.from", id="nobody"),
        pytest.param({}, "the key 'from' is missing", id="no key of that name"),
        pytest.param(
            {"from": [{"name": "far", "type": "key", "key": "far"}]},
            "'far' is not in trust.keys",
            id="a key that is not there",
        ),
        pytest.param(
            {"from": [{"name": "far", "type": "notation", "stores": ["ca:far"], "identities": ["*"]}]},
            "bundles are signed by a key or an identity",
            id="notation",
        ),
        pytest.param({"from": [], "pushed": "maybe"}, "bundles.pushed", id="an unknown word"),
    ],
)
def test_mistakes_in_the_section_are_found_when_the_profile_is_loaded(
    tmp_path: Path, bundles: dict[str, Any], words: str
) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"storage": {"rootDirectory": "store"}, "bundles": bundles}))
    with pytest.raises(ProfileInvalid, match=words):
        load_profile(path)


def test_an_identity_signs_and_is_verified_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keyless: Fulcio and a log when it is signed, a trust root in a file when it is verified."""
    monkeypatch.setenv(TOKEN, identity_token())
    with running_services() as services:
        signed = sign_inventory(KeylessSigner.connect(services.trust_config(tmp_path)), EMPTY)
        (tmp_path / "root.json").write_text((services.trust_config(tmp_path)).read_text())
    path = tmp_path / "inventory.json"
    path.write_bytes(signed)
    signer = {"name": "job", "type": "keyless", "root": "ours", "issuer": ISSUER, "subject": SUBJECT}
    profile = tmp_path / "profile.json"
    document: dict[str, Any] = {
        "storage": {"rootDirectory": "store"},
        "trust": {"sigstore": {"ours": {"file": str(tmp_path / "root.json")}}},
        "bundles": {"from": [signer]},
    }
    profile.write_text(json.dumps(document))
    assert Trusted.of(load_profile(profile).profile).read_inventory(path).inventory == EMPTY
    signer["subject"] = "somebody else"
    profile.write_text(json.dumps(document))
    with pytest.raises(NotTrusted, match="the identity is"):
        Trusted.of(load_profile(profile).profile).read_inventory(path)
