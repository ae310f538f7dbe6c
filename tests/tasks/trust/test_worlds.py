"""Images of a private trust world: exactly those that are signed as the profile asks are admitted."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from registry_server.oci.digest import Digest
from tasks.trust.verdict import VerdictOutcome
from tests.tasks.trust.material import fixture_module, subject_of
from tests.tasks.trust.world import ISSUER, SLSA, SUBJECT, SignedImage, World, pem_of, signer, yesterday

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = Digest.of(b"another image")


def _legacy(image: SignedImage, **more: Any) -> SignedImage:
    return image.cosign(**({"key": image.world.key} | more))


def _keyless(image: SignedImage, san: str = SUBJECT, issuer: str = ISSUER, **more: Any) -> SignedImage:
    return image.cosign(leaf=image.world.sigstore.leaf(san, issuer), **more)


def _dsse(image: SignedImage, statement: bytes | None = None, **more: Any) -> SignedImage:
    more = {"leaf": image.world.sigstore.leaf()} | more
    return image.bundle(image.world.sigstore.bundle_dsse(statement or image.statement(), **more))


def _key_dsse(image: SignedImage, **more: Any) -> SignedImage:
    return image.bundle(image.world.sigstore.bundle_dsse(image.statement(), key=image.world.key, **more))


def _key_in_rekor_v2(image: SignedImage) -> SignedImage:
    """What sig_fixture does not make: a key in the place of the certificate in a Rekor v2 entry."""
    fixture, world = fixture_module(), image.world
    document = world.sigstore.bundle_dsse(image.statement(), key=world.key, tlog=False)
    signature = document["dsseEnvelope"]["signatures"][0]["sig"]
    pae = fixture.FakeSigstore.pae("application/vnd.in-toto+json", image.statement())
    holder = {"publicKey": {"rawBytes": fixture.b64(fixture.spki(world.key.public_key()))}}
    verifier = {"keyDetails": "PKIX_ECDSA_P256_SHA_256"} | holder
    record = {
        "data": {"algorithm": "SHA2_256", "digest": fixture.b64(fixture.hashlib.sha256(pae).digest())},
        "signature": {"content": signature, "verifier": verifier},
    }
    spec = {"hashedRekordV002": record}
    body = fixture.jcs({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": spec})
    entry = world.sigstore.tlog_entry(body, "hashedrekord", "0.0.2", v2=True)
    document["verificationMaterial"]["tlogEntries"] = [entry]
    return image.bundle(document)


def _message(image: SignedImage, **more: Any) -> SignedImage:
    sigstore = image.world.sigstore
    return image.bundle(sigstore.bundle_msgsig(image.body, sigstore.leaf(), **more))


ADMITTED: list[tuple[str, str, Callable[[SignedImage], SignedImage]]] = [
    ("key", "key", lambda image: _legacy(image, tlog=False)),
    ("key with log entry", "key", _legacy),
    ("key, log entry required", "logged", _legacy),
    ("key in a bundle", "key", lambda image: _key_dsse(image, tlog=False)),
    ("key in a bundle, log entry required", "logged", _key_dsse),
    ("key in a bundle, Rekor v2", "logged", _key_in_rekor_v2),
    ("keyless", "keyless", _keyless),
    ("keyless with timestamp", "keyless", lambda image: _keyless(image, tsa=True)),
    ("keyless bundle", "keyless", _dsse),
    ("keyless bundle, Rekor v2", "keyless", lambda image: _dsse(image, v2=True)),
    ("keyless bundle over the manifest", "keyless", _message),
    ("keyless bundle over the manifest, Rekor v2", "keyless", lambda image: _message(image, v2=True)),
    ("notation JWS", "notation", lambda image: image.notary("jws")),
    ("notation COSE", "notation", lambda image: image.notary("cose")),
    (
        "notation JWS, timestamped",
        "timestamped",
        lambda image: image.notary("jws", tsa=image.world.sigstore.timestamp),
    ),
    (
        "notation COSE, timestamped",
        "timestamped",
        lambda image: image.notary("cose", tsa=image.world.sigstore.timestamp),
    ),
]


@pytest.mark.parametrize(("who", "sign"), [case[1:] for case in ADMITTED], ids=[case[0] for case in ADMITTED])
def test_a_good_signature_admits(world: World, who: str, sign: Callable[[SignedImage], SignedImage]) -> None:
    verdict = world.ask(sign(world.image()), signer(who))
    assert verdict.outcome is VerdictOutcome.VERIFIED, verdict
    assert verdict.authority == (who,)
    assert verdict.who


def _stranger(image: SignedImage) -> Any:
    return fixture_module().FakeSigstore(image.world.sigstore.now + timedelta(hours=1))


REFUSED: list[tuple[str, str, Callable[[SignedImage], object], str]] = [
    ("unsigned", "key", lambda image: image, "it has no signature"),
    (
        "wrong key",
        "key",
        lambda image: _legacy(image, key=ec.generate_private_key(ec.SECP256R1())),
        "is not by key sha256:",
    ),
    (
        "wrong key in a bundle",
        "key",
        lambda image: image.bundle(
            image.world.sigstore.bundle_dsse(image.statement(), key=ec.generate_private_key(ec.SECP256R1()))
        ),
        "is not by key sha256:",
    ),
    ("of another image", "key", lambda image: _legacy(image, claimed=OTHER), "of another image"),
    ("no log entry, and one is required", "logged", lambda image: _legacy(image, tlog=False), "requires one"),
    (
        "in a stranger's log",
        "logged",
        lambda image: image.cosign_by(_stranger(image), key=image.world.key),
        "not one that the trust root names",
    ),
    ("wrong identity", "keyless", lambda image: _keyless(image, SUBJECT + "-evil"), "the identity is"),
    ("wrong issuer", "keyless", lambda image: _keyless(image, issuer="https://evil.test"), "comes from"),
    (
        "stranger's certificate",
        "keyless",
        lambda image: image.cosign_by(_stranger(image), leaf=_stranger(image).leaf()),
        "chain",
    ),
    ("keyless, no log entry", "keyless", lambda image: _keyless(image, tlog=False), "without a log entry"),
    ("keyless, of another image", "keyless", lambda image: _keyless(image, claimed=OTHER), "another image"),
    (
        "bundle about another image",
        "keyless",
        lambda image: _dsse(image, image.world.sigstore.statement(OTHER)),
        "another image",
    ),
    (
        "bundle over other bytes",
        "keyless",
        lambda image: image.bundle(image.world.sigstore.bundle_msgsig(b"other", image.world.sigstore.leaf())),
        "mismatch",
    ),
    (
        "attestation offered as a signature",
        "keyless",
        lambda image: _dsse(image, image.statement(ptype=SLSA, predicate={})),
        "is not a signature",
    ),
    (
        "keyless where a key is asked for",
        "key",
        _dsse,
        "signed with a certificate, not by a key",
    ),
    (
        "key where an identity is asked for",
        "keyless",
        _key_dsse,
        "signed by a key, not by an identity",
    ),
    (
        "notation, of another image",
        "notation",
        lambda image: image.notary("jws", claimed=subject_of(b"other")),
        "of another image",
    ),
    (
        "notation, of another size",
        "notation",
        lambda image: image.notary("cose", claimed=subject_of(image.body) | {"size": 1}),
        "another size",
    ),
    (
        "notation, of another media type",
        "notation",
        lambda image: image.notary("cose", claimed=subject_of(image.body) | {"mediaType": "a/b"}),
        "another media type",
    ),
    (
        "notation by a stranger",
        "notation",
        lambda image: image.notary("jws", signer=fixture_module().notation_chain()),
        "no certificate of its chain",
    ),
    ("notation, expired", "notation", lambda image: image.notary("jws", expiry=yesterday()), "expired"),
    ("notation, expired COSE", "notation", lambda image: image.notary("cose", expiry=yesterday()), "expired"),
    ("notation without timestamp", "timestamped", lambda image: image.notary("jws"), "no timestamp"),
    (
        "notation, timestamp of a stranger",
        "timestamped",
        lambda image: image.notary("jws", tsa=_stranger(image).timestamp),
        "timestamp is not valid",
    ),
    (
        "notation, timestamp of other bytes",
        "timestamped",
        lambda image: image.notary("cose", tsa=lambda _: image.world.sigstore.timestamp(b"other")),
        "Mismatch between messages",
    ),
    (
        "notation, scheme of a signing authority with a ca store",
        "notation",
        lambda image: image.notary("jws", scheme="notary.x509.signingAuthority"),
        "no certificate of its chain",
    ),
]


@pytest.mark.parametrize(
    ("who", "sign", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_anything_else_is_refused_with_its_reason(
    world: World, who: str, sign: Callable[[SignedImage], object], reason: str
) -> None:
    image = world.image()
    sign(image)
    verdict = world.ask(image, signer(who))
    assert verdict.outcome is VerdictOutcome.REFUSED
    assert not verdict.admits
    assert reason in " ".join([*verdict.reasons, *(why for one in verdict.signatures for why in one.reasons)])


@pytest.mark.parametrize(
    ("make", "sign"),
    [
        pytest.param(
            lambda: rsa.generate_private_key(65537, 2048),
            lambda key, data: key.sign(data, fixture_module_padding(), fixture_module().hashes.SHA256()),
            id="RSA",
        ),
        pytest.param(ed25519.Ed25519PrivateKey.generate, lambda key, data: key.sign(data), id="Ed25519"),
        pytest.param(
            lambda: ec.generate_private_key(ec.SECP384R1()),
            lambda key, data: key.sign(data, ec.ECDSA(fixture_module().hashes.SHA256())),
            id="P-384",
        ),
    ],
)
def test_all_kinds_of_keys_are_taken(
    world: World, make: Callable[[], Any], sign: Callable[[Any, bytes], bytes]
) -> None:
    image, key = world.image(), make()
    payload = world.sigstore.simple_payload(image.digest)
    signature = fixture_module().b64(sign(key, payload))
    layer = {
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "digest": Digest.of(payload),
        "size": len(payload),
        "annotations": {"dev.cosignproject.cosign/signature": signature},
    }
    image.repository.sign_legacy(image.digest, [(payload, layer)])
    (world.folder / "other.pub").write_text(pem_of(key))
    policies = _with_key(world)
    assert image.judged(policies).outcome is VerdictOutcome.VERIFIED


def _with_key(world: World) -> Any:
    from profiles.model.trust.verification import VerificationPart
    from tasks.trust.compiling import Policies

    rule = {"match": ["**"], "signatures": {"from": [{"name": "k", "type": "key", "key": "other"}]}}
    document = {"trust": {"keys": {"other": {"file": "other.pub"}}}, "verify": {"rules": [rule]}}
    part = VerificationPart.model_validate(document, context={"folder": world.folder})
    return Policies(part.trust, part.verify)


def fixture_module_padding() -> Any:
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.PKCS1v15()


def test_one_good_signature_among_bad_ones_is_enough_and_each_has_its_reason(world: World) -> None:
    image = world.image()
    _legacy(image, key=ec.generate_private_key(ec.SECP256R1()))
    _legacy(image, claimed=OTHER)
    _legacy(image)
    verdict = world.ask(image, signer("key"))
    assert verdict.outcome is VerdictOutcome.VERIFIED
    assert [one.counted for one in verdict.signatures] == [False, False, True]
    assert all(one.reasons for one in verdict.signatures if not one.counted)


def test_the_verdict_says_who_when_and_by_which_authority(world: World) -> None:
    verdict = world.ask(_keyless(world.image()), signer("keyless"))
    assert verdict.who == (SUBJECT,)
    assert verdict.when == world.sigstore.now
    assert verdict.authority == ("keyless",)
    assert verdict.signatures[0].issuer == ISSUER
    assert verdict.signatures[0].log_index == 1003
    json.dumps(verdict.to_json())
