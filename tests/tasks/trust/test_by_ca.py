"""Signatures with certificates of a CA of one's own."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from registry_server.oci.digest import Digest
from tasks.trust.authorities.by_ca import CaAuthority
from tasks.trust.candidates import CosignLayer, SigningTarget
from tasks.trust.errors import Refused
from tasks.trust.formats.simple_signing import MEDIA_TYPE
from tests.tasks.trust.chains import CODE, NOW, Made, ca, leaf, usage

DIGEST = Digest.of(b"image")
PAYLOAD = (
    f'{{"critical":{{"identity":{{"docker-reference":"r/a"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},'
    '"type":"cosign container image signature"},"optional":null}'
).encode()
NAMES = x509.SubjectAlternativeName([x509.RFC822Name("dev@acme.test"), x509.DNSName("build.acme.test")])
SIGN = (usage("digital_signature"), True)
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
ROOT = ca("root")
MIDDLE = ca("middle", ROOT)


def _signed(by: Made, *chain: Made, payload: bytes = PAYLOAD) -> CosignLayer:
    pem = [each.certificate.public_bytes(Encoding.PEM).decode() for each in (by, *chain)]
    signature = by.key.sign(payload, ec.ECDSA(hashes.SHA256()))
    annotations = {
        "dev.cosignproject.cosign/signature": base64.b64encode(signature).decode(),
        "dev.sigstore.cosign/certificate": pem[0],
        "dev.sigstore.cosign/chain": "".join(pem[1:]),
    }
    return CosignLayer("here", MEDIA_TYPE, PAYLOAD, annotations)


def _check(layer: CosignLayer, **more: Any) -> None:
    known: dict[str, Any] = {"roots": (ROOT.certificate,), "email": "dev@acme.test", "now": NOW}
    evidence = CaAuthority("ca", **(known | more)).check(layer, SigningTarget(DIGEST, "a/b"))
    assert evidence.when is None


def _leaf(issuer: Made, *extensions: Any, **more: Any) -> Made:
    return leaf(issuer, *(extensions or (SIGN, (CODE, False))), (NAMES, False), **more)


def test_a_chain_to_a_root_of_the_profile_is_taken() -> None:
    _check(_signed(_leaf(ROOT)))
    _check(_signed(_leaf(MIDDLE), MIDDLE))  # what the signer offers leads to the root
    _check(_signed(_leaf(MIDDLE)), intermediates=(MIDDLE.certificate,))
    _check(_signed(_leaf(ROOT)), hostname="build.acme.test")


@pytest.mark.parametrize(
    ("layer", "more"),
    [
        pytest.param(_signed(_leaf(ca("root"))), {}, id="a stranger's root of the same name"),
        pytest.param(_signed(_leaf(MIDDLE)), {}, id="nothing leads to the root"),
        pytest.param(_signed(_leaf(ROOT)), {"email": "other@acme.test"}, id="another name"),
        pytest.param(_signed(_leaf(ROOT)), {"hostname": "evil.test"}, id="another host"),
        pytest.param(_signed(_leaf(ROOT)), {"now": NOW + timedelta(days=30)}, id="no longer valid"),
        pytest.param(_signed(_leaf(ROOT)), {"now": NOW - timedelta(days=30)}, id="not yet valid"),
        pytest.param(_signed(_leaf(ROOT), payload=b"other"), {}, id="of other bytes"),
        pytest.param(_signed(_leaf(ROOT), *[MIDDLE] * 11), {}, id="too many certificates"),
        pytest.param(_signed(_leaf(ROOT, (usage("key_agreement"), True))), {}, id="not for signatures"),
        pytest.param(_signed(_leaf(ROOT, SIGN, (SERVERS, False))), {}, id="for servers"),
        pytest.param(
            _signed(_leaf(Made("no ca", ROOT, [SIGN])), Made("no ca", ROOT, [SIGN])), {}, id="issued by no CA"
        ),
    ],
)
def test_anything_else_is_refused(layer: CosignLayer, more: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        _check(layer, **more)
