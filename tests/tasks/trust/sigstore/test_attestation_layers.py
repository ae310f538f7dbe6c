"""cosign's older attestations (`.att`), by key and identity, in each kind of log entry that was in use."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from tasks.trust.verdict import VerdictOutcome
from tests.tasks.trust.material import fixture_module
from tests.tasks.trust.world import SLSA, SOURCE, SignedImage, World, signer

if TYPE_CHECKING:
    from tasks.trust.verdict import Verdict

OLD = {"stype": "https://in-toto.io/Statement/v0.1", "subject_name": SOURCE, "ptype": SLSA}


def _sha(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _intoto_1(raw: bytes, statement: bytes, _: bytes, pem: bytes) -> bytes:
    fixture = fixture_module()
    content = {"hash": _sha(raw), "payloadHash": _sha(statement)}
    spec = {"content": content, "publicKey": fixture.b64(pem)}
    return bytes(fixture.jcs({"apiVersion": "0.0.1", "kind": "intoto", "spec": spec}))


def _intoto_2(raw: bytes, statement: bytes, signature: bytes, pem: bytes) -> bytes:
    fixture = fixture_module()
    one = {"publicKey": fixture.b64(pem), "sig": fixture.b64(fixture.b64(signature).encode())}
    envelope = {"payloadType": "application/vnd.in-toto+json", "signatures": [one]}
    content = {"envelope": envelope, "hash": _sha(raw), "payloadHash": _sha(statement)}
    return bytes(fixture.jcs({"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": content}}))


def _dsse(raw: bytes, statement: bytes, signature: bytes, pem: bytes) -> bytes:
    return bytes(fixture_module().FakeSigstore.body_dsse(raw, statement, signature, pem))


def _attested(world: World, body: Any, *, key: bool, about: bytes | None = None) -> SignedImage:
    """`about`: an envelope's text that the log entry is about, in the place of its own."""
    fixture, image = fixture_module(), world.image()
    leaf = None if key else world.sigstore.leaf()
    by: dict[str, Any] = {"key": world.key} if key else {"leaf": leaf}
    statement = image.statement(**OLD)
    envelope = world.sigstore.bundle_dsse(statement, **by)["dsseEnvelope"]
    raw = fixture.jcs(envelope)
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    pem = fixture.pem_pub(world.key.public_key()) if leaf is None else fixture.pem(leaf[1])
    entry = body(about or raw, about or statement, signature, pem)
    annotations = {
        "dev.cosignproject.cosign/signature": "",
        "dev.sigstore.cosign/bundle": world.sigstore.rekor_bundle(entry),
    }
    if leaf is not None:
        annotations["dev.sigstore.cosign/certificate"] = pem.decode()
    layer = {"mediaType": "application/vnd.dsse.envelope.v1+json", "digest": Digest.of(raw), "size": len(raw)}
    image.repository.sign_legacy(image.digest, [(raw, layer | {"annotations": annotations})], "att")
    return image


def _asked(world: World, image: SignedImage, who: str) -> Verdict:
    wanted = [{"predicateType": SLSA, "from": [who]}]
    return world.ask(image, signer(who), signatures={"need": 0}, attestations=wanted)


KINDS = [
    pytest.param(_dsse, id="dsse 0.0.1"),
    pytest.param(_intoto_1, id="intoto 0.0.1"),
    pytest.param(_intoto_2, id="intoto 0.0.2"),
]


@pytest.mark.parametrize("who", ["logged", "keyless"])
@pytest.mark.parametrize("body", KINDS)
def test_an_attestation_layer_is_taken(world: World, body: Any, who: str) -> None:
    verdict = _asked(world, _attested(world, body, key=who == "logged"), who)
    assert verdict.outcome is VerdictOutcome.VERIFIED
    assert verdict.signatures[0].predicate_type == SLSA
    assert verdict.when == world.sigstore.now


@pytest.mark.parametrize("who", ["logged", "keyless"])
@pytest.mark.parametrize("body", KINDS)
def test_a_log_entry_about_something_else_proves_nothing(world: World, body: Any, who: str) -> None:
    verdict = _asked(world, _attested(world, body, key=who == "logged", about=b"other"), who)
    assert verdict.outcome is VerdictOutcome.REFUSED
    reason = verdict.signatures[0].reasons[0]
    assert "about something else" in reason or "does not match" in reason


def test_an_attestation_layer_is_no_signature(world: World) -> None:
    verdict = world.ask(_attested(world, _dsse, key=False), signer("keyless"))
    assert verdict.outcome is VerdictOutcome.REFUSED
    assert not verdict.signatures  # it is not even fetched: no attestation is asked for
