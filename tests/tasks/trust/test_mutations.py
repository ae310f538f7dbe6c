"""Whatever is changed in a signature that counts, it no longer counts; and nothing makes `judge` raise.

What is not signed by anybody cannot be protected by a signature: such fields are listed with the reason.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from registry_server.oci.digest import Digest
from tests.tasks.trust.cases import (
    Case,
    all_cases,
    judge_bundle,
    judge_layers,
    legacy_layers,
    notation_envelope,
)
from tests.tasks.trust.material import BUNDLE_TYPE, DATA, fixture_module, needs_material, subject_of
from tests.tasks.trust.mutations import changes, mutants
from tests.tasks.trust.world import COSE, JWS, SLSA, SignedImage, World, signer

if TYPE_CHECKING:
    from collections.abc import Callable

UNSIGNED = {
    "dsseEnvelope.signatures.keyid": "a hint that no verifier uses",
    "verificationMaterial.publicKey.hint": "a hint that no verifier uses: the policy names the key",
    "verificationMaterial.tlogEntries.inclusionProof.checkpoint.envelope": "names of log and witnesses, and "
    "witnesses' signatures, stand beside the signed text",
}
OTHER_TIME = {
    "verificationMaterial.timestampVerificationData.rfc3161Timestamps.signedTimestamp": "another time than "
    "the one that counts: the log's promise dates the signature",
}
NO_PROMISE = {
    "verificationMaterial.tlogEntries.logIndex": "only a promise covers it; verdicts show the proof's index",
}


def _unsigned(document: dict[str, Any]) -> set[str]:
    material = document["verificationMaterial"]
    promised = any("inclusionPromise" in entry for entry in material["tlogEntries"])
    return set(UNSIGNED) | set(OTHER_TIME if promised else NO_PROMISE)


def _cases() -> list[Case]:
    kinds = ("sigstore-bundle", "oci-bundle-dsse")
    return [case for case in all_cases(*kinds) if case["expect"] == "accept"]


@needs_material
@pytest.mark.parametrize("case", _cases(), ids=lambda case: case["id"])
def test_each_field_of_a_real_bundle_matters(case: Case) -> None:
    content = (DATA / case["bundle"]).read_bytes()
    digest = Digest(case.get("image_digest") or Digest.of((DATA / case.get("artifact", "")).read_bytes()))
    document = json.loads(content)
    assert judge_bundle(case, content, digest).admits
    admitted = {
        name
        for name, mutant in mutants(document, ways=2)
        if judge_bundle(case, json.dumps(mutant).encode(), digest, like=content).admits
    }
    assert admitted <= _unsigned(document)


def _bundles(image: SignedImage) -> dict[str, tuple[str, dict[str, Any]]]:
    sigstore = image.world.sigstore
    leaf, key = sigstore.leaf(), image.world.key
    return {
        "key": ("logged", sigstore.bundle_dsse(image.statement(), key=key)),
        "keyless": ("keyless", sigstore.bundle_dsse(image.statement(), leaf)),
        "keyless, Rekor v2": ("keyless", sigstore.bundle_dsse(image.statement(), leaf, v2=True)),
        "over the manifest": ("keyless", sigstore.bundle_msgsig(image.body, leaf)),
        "over the manifest, Rekor v2": ("keyless", sigstore.bundle_msgsig(image.body, leaf, v2=True)),
    }


@pytest.mark.parametrize(
    "form", ["key", "keyless", "keyless, Rekor v2", "over the manifest", "over the manifest, Rekor v2"]
)
def test_each_field_of_a_bundle_matters(world: World, form: str) -> None:
    image = world.image()
    who, document = _bundles(image)[form]
    policies = world.policies({"match": ["**"], "signatures": {"from": [signer(who)]}})
    assert image.bundle(document).judged(policies).admits
    admitted = {
        name
        for name, mutant in mutants(document, ways=8)
        if world.image().bundle(mutant).judged(policies).admits
    }
    assert admitted <= _unsigned(document)


@pytest.mark.parametrize("who", ["logged", "keyless"])
def test_each_annotation_and_the_payload_of_a_layer_matter(world: World, who: str) -> None:
    image = world.image()
    by = {"leaf": world.sigstore.leaf()} if who == "keyless" else {"key": world.key}
    payload, layer = world.sigstore.legacy_layer(image.digest, **by)
    policies = world.policies({"match": ["**"], "signatures": {"from": [signer(who)]}})
    annotations = {name: _opened(text) for name, text in layer["annotations"].items()}
    annotations.pop("dev.sigstore.cosign/chain", None)  # what a signer says of its CAs is not looked at
    document = {"payload": payload, "annotations": annotations}
    assert _layered(world, document, layer).judged(policies).admits
    admitted = {
        name for name, mutant in mutants(document) if _layered(world, mutant, layer).judged(policies).admits
    }
    assert not admitted


def _opened(text: str) -> Any:
    """Annotations that are JSON, as JSON; certificates without what PEM leaves free."""
    if text.startswith("{"):
        return json.loads(text)
    return text if not text.startswith("-----") else {"pem": "".join(text.split("-----")[2].split())}


def _closed(value: Any) -> str:
    if isinstance(value, dict) and "pem" in value:
        return f"-----BEGIN CERTIFICATE-----\n{value['pem']}\n-----END CERTIFICATE-----\n"
    return json.dumps(value) if isinstance(value, dict) else value


def _layered(world: World, document: dict[str, Any], layer: dict[str, Any]) -> SignedImage:
    image = world.image()
    payload = document.get("payload", b"")
    found = {name: _closed(value) for name, value in document["annotations"].items()}
    new = layer | {"digest": Digest.of(payload), "size": len(payload), "annotations": found}
    image.repository.sign_legacy(image.digest, [(payload, new)])
    return image


def _legacy_cases() -> list[Case]:
    return [case for case in all_cases("cosign-legacy") if case["expect"] == "accept"]


@needs_material
@pytest.mark.parametrize("case", _legacy_cases(), ids=lambda case: case["id"])
def test_each_field_of_a_real_layer_matters(case: Case) -> None:
    """Of the layer that counts; by keys, with and without a log, by identity, by a CA of one's own."""
    payload, layer = next(each for each in legacy_layers(case) if judge_layers(case, [each]).admits)
    annotations = {name: _opened(text) for name, text in layer["annotations"].items()}
    annotations = {name: value for name, value in annotations.items() if name not in _beside(case)}
    document = {"payload": payload, "mediaType": layer["mediaType"], "annotations": annotations}
    assert judge_layers(case, [_rebuilt(document, layer)]).admits
    admitted = {
        name
        for name, mutant in mutants(document, ways=4)
        if "mediaType" in mutant and judge_layers(case, [_rebuilt(mutant, layer)]).admits
    }
    assert not admitted


def _beside(case: Case) -> set[str]:
    """What a rule of this kind does not look at."""
    unused = {"dev.sigstore.cosign/chain"}  # what a signer says of its CAs
    if "key" in case:
        unused.add("dev.sigstore.cosign/certificate")
        unused |= set() if "rekor_key" in case else {"dev.sigstore.cosign/bundle"}
    return unused | ({"dev.sigstore.cosign/bundle"} if "ca_roots" in case else set())


def _rebuilt(document: dict[str, Any], layer: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    payload = document.get("payload", b"")
    found = {name: _closed(value) for name, value in document["annotations"].items()}
    new = {"mediaType": document["mediaType"], "digest": Digest.of(payload), "size": len(payload)}
    return payload, layer | new | {"annotations": found}


def _real_notation_cases() -> list[Case]:
    return [case for case in all_cases("notation") if case["expect"] == "accept"]


@needs_material
@pytest.mark.parametrize("case", _real_notation_cases(), ids=lambda case: case["id"])
def test_each_field_of_a_real_jws_matters(case: Case) -> None:
    content, judged = notation_envelope(case)
    assert judged(content).admits
    document = json.loads(content)
    parts = document | {"signature": fixture_module().ub64u(document["signature"])}
    admitted = {
        name
        for name, mutant in mutants(parts, ways=6)
        if judged(json.dumps(mutant, default=fixture_module().b64u).encode()).admits
    }
    unread = {"header.io.cncf.notary.signingAgent", "header.io.cncf.notary.timestampSignature"}
    assert admitted <= unread  # no store of timestamp authorities: tokens are not looked at


def test_each_field_of_a_jws_matters(world: World) -> None:
    image, fixture = world.image(), fixture_module()
    content = fixture.notation_sign(
        subject_of(image.body), *world.notation, "jws", tsa=world.sigstore.timestamp
    )
    policies = world.policies({"match": ["**"], "signatures": {"from": [signer("timestamped")]}})
    document = json.loads(content)
    assert _admitted(world, policies, content, JWS)
    # The signature in bytes: base64url without padding has spellings that are no base64url.
    parts = document | {"signature": fixture.ub64u(document["signature"])}
    admitted = {
        name
        for name, mutant in mutants(parts)
        if _admitted(world, policies, json.dumps(mutant, default=fixture.b64u).encode(), JWS)
    }
    assert admitted <= {"header.io.cncf.notary.signingAgent"}  # unprotected, and nobody reads it


def _admitted(world: World, policies: Any, content: bytes, media_type: str) -> bool:
    image = world.image()
    image.repository.attach(subject_of(image.body), content, media_type)
    return image.judged(policies).admits


def test_each_part_of_a_cose_message_matters(world: World) -> None:
    image = world.image()
    content = fixture_module().notation_sign(
        subject_of(image.body), *world.notation, "cose", tsa=world.sigstore.timestamp
    )
    policies = world.policies({"match": ["**"], "signatures": {"from": [signer("timestamped")]}})
    protected, unprotected, payload, signature = cbor2.loads(content).value
    token = "io.cncf.notary.timestampSignature"
    leaf, ca = unprotected[33]

    def message(**new: Any) -> bytes:
        header = {33: [new.get("leaf", leaf), new.get("ca", ca)], token: new.get("token", unprotected[token])}
        parts = [new.get("protected", protected), header, new.get("payload", payload)]
        return cbor2.dumps(cbor2.CBORTag(18, [*parts, new.get("signature", signature)]))

    assert _admitted(world, policies, message(), COSE)
    assert not _admitted(world, policies, message() + b"\0", COSE)
    parts = {"protected": protected, "payload": payload, "signature": signature, "leaf": leaf, "ca": ca}
    for name, value in {**parts, "token": unprotected[token]}.items():
        for how, changed in changes(value):
            assert not _admitted(world, policies, message(**{name: changed}), COSE), (name, how)


def test_each_field_of_an_attestation_layer_matters(world: World) -> None:
    image = world.image().attestation()
    wanted = {"predicateType": SLSA, "from": ["keyless"]}
    rule = {"match": ["**"], "signatures": {"need": 0, "from": [signer("keyless")]}, "attestations": [wanted]}
    policies = world.policies(rule)
    assert image.judged(policies).admits
    manifest = json.loads(image.repository.manifests[f"{image.digest.replace(':', '-')}.att"])
    layer = manifest["layers"][0]
    envelope = json.loads(image.repository.blobs[layer["digest"]])
    for name, mutant in mutants(envelope):
        raw = fixture_module().jcs(mutant)
        new = layer | {"digest": Digest.of(raw), "size": len(raw)}
        other = world.image()
        other.repository.sign_legacy(other.digest, [(raw, new)], "att")
        assert not other.judged(policies).admits, name


def test_no_bytes_make_it_raise(world: World) -> None:
    """Stretches of good envelopes replaced by other bytes; the generator's seed is fixed."""
    dice = random.Random(5)  # noqa: S311 - bytes to try, no secret
    everybody = [signer(kind) for kind in ("key", "keyless", "notation")]
    policies = world.policies({"match": ["**"], "signatures": {"from": everybody}})
    for _ in range(25):
        image = world.image()
        for content in map(dice.choice, [_seeds(world)] * 3):
            at, cut = dice.randrange(len(content)), dice.randrange(9)
            broken = content[:at] + dice.randbytes(dice.randrange(9)) + content[at + cut :]
            image.repository.attach(subject_of(image.body), broken, JWS)
            image.repository.attach(subject_of(image.body), broken, COSE)
            image.repository.attach(subject_of(image.body), broken, BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
        image.judged(policies, thorough=True)


def _seeds(world: World) -> list[bytes]:
    image = world.image()
    sign: Callable[..., bytes] = fixture_module().notation_sign
    notary = [sign(subject_of(image.body), *world.notation, fmt) for fmt in ("jws", "cose")]
    return [json.dumps(_bundles(image)["keyless"][1]).encode(), *notary]
