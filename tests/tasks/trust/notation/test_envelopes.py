"""The two envelopes, JWS and COSE: their headers, algorithms and keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tasks.trust.errors import Refused, refusing
from tasks.trust.notation.envelope import read_envelope
from tests.tasks.trust.chains import Made, usage
from tests.tasks.trust.material import fixture_module, subject_of
from tests.tasks.trust.world import COSE, JWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tasks.trust.world import World

SIGN = (usage("digital_signature"), True)


def _reheadered(world: World, fmt: str, change: Callable[[dict[Any, Any]], None]) -> bytes:
    """An envelope with another protected header, rightly signed."""
    fixture, (key, chain) = fixture_module(), world.notation
    target = subject_of(world.image().body)
    content = fixture.notation_sign(target, key, chain, fmt)
    if fmt == "jws":
        document = json.loads(content)
        header = json.loads(fixture.ub64u(document["protected"]))
        change(header)
        document["protected"] = fixture.b64u(json.dumps(header).encode())
        text = f"{document['protected']}.{document['payload']}".encode()
        document["signature"] = fixture.b64u(fixture._nsign(key, text))
        return json.dumps(document).encode()
    protected, unprotected, payload, _ = cbor2.loads(content).value
    header = cbor2.loads(protected)
    change(header)
    protected = cbor2.dumps(header)
    signature = fixture._nsign(key, cbor2.dumps(["Signature1", protected, b"", payload]))
    parts = [protected, {33: list(unprotected[33])}, payload, signature]
    return bytes(cbor2.dumps(cbor2.CBORTag(18, parts)))


N = "io.cncf.notary."


@pytest.mark.parametrize("fmt", ["jws", "cose"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"crit": [f"{N}signingScheme", "x"], "x": 1}, "not supported", id="unknown critical"),
        pytest.param(
            {"crit": [f"{N}signingScheme", f"{N}expiry"]}, "what is not there", id="critical and absent"
        ),
        pytest.param({"crit": []}, "crit does not list", id="nothing critical"),
        pytest.param({"crit": None}, "crit is missing", id="no crit"),
        pytest.param(
            {"crit": [f"{N}signingScheme", f"{N}verificationPlugin"], f"{N}verificationPlugin": "p"},
            "not supported",
            id="a plugin",
        ),
        pytest.param({"crit": [f"{N}signingScheme"] * 2}, "crit does not list", id="twice"),
        pytest.param({"cty": "text/plain"}, "not of the Notary Project's type", id="another type"),
        pytest.param({f"{N}signingScheme": "other"}, "is not known", id="unknown scheme"),
        pytest.param({f"{N}signingTime": None}, "the signing time is missing", id="no time"),
        pytest.param({f"{N}expiry": "x"}, "crit does not list", id="expiry not critical"),
        pytest.param({"alg": "wrong"}, "not the one of the certificate's key", id="another algorithm"),
        pytest.param({"alg": None}, "not the one of the certificate's key", id="no algorithm"),
    ],
)
def test_headers_are_held_to_the_specification(
    world: World, fmt: str, change: dict[str, Any], reason: str
) -> None:
    labels = {"alg": 1, "crit": 2, "cty": 3} if fmt == "cose" else {}

    def changed(header: dict[Any, Any]) -> None:
        for key, value in change.items():
            header[labels.get(key, key)] = value

    content = _reheadered(world, fmt, changed)
    with pytest.raises(Refused, match=reason), refusing(""):
        read_envelope(JWS if fmt == "jws" else COSE, content).check_signature()


@pytest.mark.parametrize("fmt", ["jws", "cose"])
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), id="ES384"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), id="ES512"),
        pytest.param(lambda: rsa.generate_private_key(65537, 2048), id="PS256"),
        pytest.param(lambda: rsa.generate_private_key(65537, 3072), id="PS384"),
    ],
)
def test_all_algorithms_are_read(fmt: str, key: Callable[[], Any]) -> None:
    fixture = fixture_module()
    signing, chain = fixture.notation_chain(key())
    content = fixture.notation_sign(subject_of(b"x"), signing, chain, fmt)
    read_envelope(JWS if fmt == "jws" else COSE, content).check_signature()


def test_other_kinds_of_keys_are_refused() -> None:
    fixture = fixture_module()
    _, chain = fixture.notation_chain()
    odd = Made("signer", extensions=[SIGN], key=ed25519.Ed25519PrivateKey.generate(), algorithm=None)
    content = fixture.notation_sign(subject_of(b"x"), fixture.notation_chain()[0], chain, "jws")
    document = json.loads(content)
    der = odd.certificate.public_bytes(fixture.serialization.Encoding.DER)
    document["header"]["x5c"] = [fixture.b64(der)]
    with pytest.raises(Refused, match="neither RSA nor ECDSA"):
        read_envelope(JWS, json.dumps(document).encode()).check_signature()
