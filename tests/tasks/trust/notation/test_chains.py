"""Certificate chains of the Notary Project: what each certificate must say, and when it is valid."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tasks.trust.errors import Refused
from tasks.trust.notation.chain import check_chain, check_validity, trusted
from tasks.trust.notation.identities import Identities
from tests.tasks.trust.chains import CODE, NOW, Made, ca, certificates, leaf, name, usage

ROOT = ca("root")
SIGN = (usage("digital_signature"), True)


@pytest.mark.parametrize(
    "kind", [pytest.param(ec.SECP256R1(), id="P-256"), pytest.param(ec.SECP384R1(), id="P-384")]
)
def test_a_chain_as_it_should_be_is_taken(kind: Any) -> None:
    middle = ca("middle", ROOT, path=0, key=ec.generate_private_key(kind))
    check_chain(certificates(leaf(middle), middle, ROOT))
    alone = leaf(None)
    check_chain(certificates(alone))
    assert trusted(certificates(alone), [alone.certificate]) == alone.certificate


def _broken_chains() -> dict[str, list[Made]]:
    stranger, middle = ca("root"), ca("middle", ROOT)
    wrong: dict[str, list[tuple[Any, bool]]] = {
        "no usage": [(CODE, False)],
        "usage not critical": [(usage("digital_signature"), False)],
        "also for keys": [(usage("digital_signature", "key_encipherment"), True)],
        "also for certificates": [(usage("digital_signature", "key_cert_sign"), True)],
        "a CA": [SIGN, (x509.BasicConstraints(ca=True, path_length=None), True)],
        "for servers": [SIGN, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
        "for timestamps": [SIGN, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), False)],
        "unknown critical extension": [
            SIGN,
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b""), True),
        ],
    }
    found = {f"leaf: {what}": [leaf(ROOT, *extensions), ROOT] for what, extensions in wrong.items()}
    constraints = (x509.BasicConstraints(ca=True, path_length=None), True)
    for what, extensions in {
        "no constraints": [(usage("key_cert_sign"), True)],
        "constraints not critical": [(constraints[0], False), (usage("key_cert_sign"), True)],
        "no usage": [constraints],
        "may not certify": [constraints, (usage("crl_sign"), True)],
    }.items():
        above = ca("odd", ROOT, extensions=extensions)
        found[f"issuer: {what}"] = [leaf(above), above, ROOT]
    short = ca("short", path=0)
    below = ca("below", short)
    good = leaf(middle)
    return found | {
        "path too long": [leaf(below), below, short],
        "no root": [good, middle],
        "not in order": [good, ROOT, middle],
        "another root of the same name": [leaf(ROOT), stranger],
        "one certificate too many": [leaf(ROOT), ROOT, stranger],
    }


BROKEN = _broken_chains()


@pytest.mark.parametrize("what", BROKEN)
def test_a_chain_with_one_thing_wrong_is_refused(what: str) -> None:
    with pytest.raises(Refused):
        check_chain(certificates(*BROKEN[what]))


def test_every_certificate_has_to_be_valid_all_the_time() -> None:
    old = ca("old", end=NOW - timedelta(days=1))
    chain = certificates(leaf(old), old)
    check_validity(chain, NOW - timedelta(days=3), NOW - timedelta(days=2), "then")
    with pytest.raises(Refused, match="then: a certificate of the chain"):
        check_validity(chain, NOW - timedelta(days=2), NOW, "then")
    with pytest.raises(Refused):
        check_validity(chain, NOW - timedelta(days=20), NOW - timedelta(days=2), "then")


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        ({("2.5.4.6", "US")}, True),
        ({("2.5.4.6", "US"), ("2.5.4.3", "signer")}, True),
        ({("2.5.4.6", "DE")}, False),
        ({("2.5.4.6", "US"), ("2.5.4.11", "x")}, False),
    ],
)
def test_an_identity_is_part_of_the_subject(wanted: set[tuple[str, str]], takes: bool) -> None:  # noqa: FBT001 - a table
    assert Identities((frozenset(wanted),)).take(name("signer")) is takes
