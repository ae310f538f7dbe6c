"""Bundles with a timestamp and no log entry, as GitHub signs for private repositories."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tasks.trust.errors import TrustBroken
from tests.tasks.trust.material import fixture_module
from tests.tasks.trust.world import ISSUER, SLSA, SUBJECT, World, signer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tasks.trust.verdict import Verdict
    from tests.tasks.trust.world import SignedImage


def root_of(world: World, **changes: Any) -> dict[str, Any]:
    """GitHub's has CAs and timestamp authorities, and no log of either kind."""
    found: dict[str, Any] = json.loads((world.folder / "root.json").read_text())
    return {key: value for key, value in found.items() if key not in ("tlogs", "ctlogs")} | changes


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    write(made, root_of(made))
    return made


def write(world: World, root: dict[str, Any]) -> None:
    (world.folder / "root.json").write_text(json.dumps(root))


def attested(image: SignedImage, leaf: Any = None, **more: Any) -> dict[str, Any]:
    sigstore = image.world.sigstore
    options = {"tlog": False, "tsa": True} | more
    made: dict[str, Any] = sigstore.bundle_dsse(image.statement(), leaf or sigstore.leaf(), **options)
    return made


def verdict(image: SignedImage, bundle: dict[str, Any], **more: Any) -> Verdict:
    image.bundle(bundle)
    return image.world.ask(image, signer("keyless"), **more)


def test_a_timestamp_of_the_trust_root_is_enough_where_the_root_has_no_log(world: World) -> None:
    found = verdict(world.image(), attested(world.image()))
    assert found.admits, found
    assert found.who == (SUBJECT,)
    assert found.when == world.sigstore.now.replace(microsecond=0)


def _stamped(image: SignedImage, message: bytes | None = None, **more: Any) -> dict[str, Any]:
    bundle = attested(image, tsa=False)
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    token = base64.b64encode(image.world.sigstore.timestamp(message or signature, **more)).decode()
    bundle["verificationMaterial"]["timestampVerificationData"] = {
        "rfc3161Timestamps": [{"signedTimestamp": token}]
    }
    return bundle


def without_a_timestamp(image: SignedImage) -> dict[str, Any]:
    return attested(image, tsa=False)


def of_another_signature(image: SignedImage) -> dict[str, Any]:
    return _stamped(image, b"another signature")


def by_another_authority(image: SignedImage) -> dict[str, Any]:
    """Its token brings the certificates that it leads to, which are nobody's anchors."""
    bundle, other = attested(image, tsa=False), fixture_module().FakeSigstore()
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    token = base64.b64encode(other.timestamp(signature)).decode()
    bundle["verificationMaterial"]["timestampVerificationData"] = {
        "rfc3161Timestamps": [{"signedTimestamp": token}]
    }
    return bundle


def after_the_certificate_has_expired(image: SignedImage) -> dict[str, Any]:
    return _stamped(image, when=image.world.sigstore.now + timedelta(days=30))


def before_the_certificate_was_made(image: SignedImage) -> dict[str, Any]:
    return _stamped(image, when=image.world.sigstore.now - timedelta(days=30))


def with_a_certificate_of_another_ca(image: SignedImage) -> dict[str, Any]:
    return attested(image, fixture_module().FakeSigstore().leaf())


def by_another_identity(image: SignedImage) -> dict[str, Any]:
    return attested(
        image, image.world.sigstore.leaf("https://github.com/evil/app/.github/workflows/x.yml@main")
    )


def with_a_tampered_statement(image: SignedImage) -> dict[str, Any]:
    bundle = attested(image)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(b"cosign", b"cosigm")).decode()
    return bundle


def of_another_image(image: SignedImage) -> dict[str, Any]:
    return attested(image.world.image("another"))


def with_a_broken_certificate(image: SignedImage) -> dict[str, Any]:
    bundle = attested(image)
    bundle["verificationMaterial"]["certificate"] = {"rawBytes": "AAAA"}
    return bundle


def with_a_field_of_the_wrong_kind(image: SignedImage) -> dict[str, Any]:
    bundle = attested(image)
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"x": 1}]}
    return bundle


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (without_a_timestamp, "no timestamp authority of the trust root vouches"),
        (of_another_signature, "no timestamp authority of the trust root vouches"),
        (by_another_authority, "no timestamp authority of the trust root vouches"),
        (after_the_certificate_has_expired, "chain"),
        (before_the_certificate_was_made, "chain"),
        (with_a_certificate_of_another_ca, "chain"),
        (by_another_identity, f"not '{SUBJECT}'"),
        (with_a_tampered_statement, "signature"),
        (of_another_image, "another"),
        (with_a_broken_certificate, "not a valid keyless signature"),
        (with_a_field_of_the_wrong_kind, "does not have the form of its type"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_anything_else_is_refused_in_a_sentence(
    world: World, attack: Callable[[SignedImage], dict[str, Any]], why: str
) -> None:
    found = verdict(world.image(), attack(world.image()))
    said = " ".join((*found.reasons, *found.findings))
    assert not found.admits
    assert why in said, said
    assert "validation error" not in said
    assert "\n" not in said


def test_where_the_root_has_a_log_its_entry_cannot_be_left_out(world: World) -> None:
    write(world, json.loads(json.dumps(world.sigstore.trusted_root())))
    found = verdict(world.image(), attested(world.image()))
    assert not found.admits
    assert "validation error" not in " ".join(found.findings)


def test_where_the_root_names_certificate_logs_their_promise_is_checked(world: World) -> None:
    whole = world.sigstore.trusted_root()
    write(world, root_of(world, ctlogs=whole["ctlogs"]))
    assert verdict(world.image(), attested(world.image())).admits
    write(world, root_of(world, ctlogs=fixture_module().FakeSigstore().trusted_root()["ctlogs"]))
    assert not verdict(world.image("other"), attested(world.image("other"))).admits


def test_an_attestation_of_the_kind_is_none_of_another(world: World) -> None:
    image = world.image()
    more = {"attestations": [{"predicateType": SLSA, "from": ["keyless"]}], "signatures": {"need": 0}}
    assert not verdict(image, attested(image), **more).admits


def test_a_root_by_which_nothing_is_dated_is_refused_when_it_is_loaded(world: World) -> None:
    write(world, root_of(world, timestampAuthorities=[]))
    rule = {"match": ["**"], "signatures": {"from": [signer("keyless", issuer=ISSUER)]}}
    with pytest.raises(TrustBroken, match="no transparency log and no timestamp authority"):
        world.policies(rule).check()
