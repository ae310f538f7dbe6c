"""Revoked certificates, by lists in files, and what a level of verification makes of a failed check."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tasks.trust.errors import Refused
from tasks.trust.notation.revocation import Revocations
from tests.tasks.trust.chains import NOW, Made, ca, certificates, crl, leaf, usage
from tests.tasks.trust.material import fixture_module
from tests.tasks.trust.world import signer

if TYPE_CHECKING:
    from tests.tasks.trust.world import World

ROOT = ca("root")
SIGN = (usage("digital_signature"), True)
URL = x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.test/x")], None, None, None)


def _revoking(*lists: bytes, certificate: Made | None = None) -> None:
    made = certificate or leaf(ROOT)
    Revocations.from_files(lists).check(certificates(made, ROOT), NOW)


ADVERTISING = leaf(ROOT, SIGN, (x509.CRLDistributionPoints([URL]), False))


def test_a_certificate_that_no_list_revokes_is_taken() -> None:
    _revoking()  # it names no place to ask
    _revoking(crl(ROOT), certificate=ADVERTISING)
    _revoking(crl(ROOT, leaf(ROOT).certificate), certificate=ADVERTISING)


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        pytest.param([crl(ROOT, ADVERTISING.certificate)], "has been revoked", id="revoked"),
        pytest.param([], "no CRL file of its issuer", id="none"),
        pytest.param([crl(ca("root"))], "no CRL file of its issuer", id="of another issuer of the same name"),
        pytest.param([crl(ca("other"))], "no CRL file of its issuer", id="of another issuer"),
        pytest.param([crl(ROOT, days=0)], "out of date", id="old"),
        pytest.param([crl(ROOT, updated=NOW + timedelta(days=1))], "out of date", id="of the future"),
        pytest.param(
            [crl(ROOT, critical=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b""))],
            "no CRL file of its issuer",
            id="with a critical extension that is not known",
        ),
        pytest.param([crl(ROOT, number=2, delta_of=1)], "no CRL file of its issuer", id="a delta alone"),
        pytest.param(
            [
                crl(ROOT),
                crl(ROOT, ADVERTISING.certificate, number=2, delta_of=1, updated=NOW - timedelta(hours=1)),
            ],
            "has been revoked",
            id="by a delta",
        ),
    ],
)
def test_what_is_revoked_or_cannot_be_known_is_refused(lists: list[bytes], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        _revoking(*lists, certificate=ADVERTISING)


def test_a_delta_can_take_a_revocation_back() -> None:
    base = crl(ROOT, ADVERTISING.certificate, reason=x509.ReasonFlags.certificate_hold)
    delta = crl(
        ROOT,
        ADVERTISING.certificate,
        number=2,
        delta_of=1,
        reason=x509.ReasonFlags.remove_from_crl,
        updated=NOW - timedelta(hours=1),
    )
    _revoking(base, delta, certificate=ADVERTISING)


def test_a_revoked_certificate_is_refused_in_the_whole(own: World) -> None:
    world = own
    revoked = _notation_crl(world)
    (world.folder / "revoked.crl").write_bytes(revoked)
    trust = world.trust
    trust["notation"]["crls"] = ["revoked.crl"]
    image = world.image().notary("jws")
    for override, admitted in (({}, False), ({"revocation": "log"}, True), ({"revocation": "skip"}, True)):
        verdict = image.judged(_policies(world, trust, signer("notation", override=override)))
        assert verdict.admits is admitted


def _notation_crl(world: World) -> bytes:
    """By the world's root, whose key the fixture keeps for itself: so a root of our own."""
    root = ca("root", start=NOW - timedelta(days=400), end=NOW + timedelta(days=3650))
    made = leaf(root, start=NOW - timedelta(days=400), end=NOW + timedelta(days=3650))
    world.notation = (made.key, certificates(made, root))
    (world.folder / "ca.pem").write_bytes(
        root.certificate.public_bytes(fixture_module().serialization.Encoding.PEM)
    )
    return crl(root, made.certificate, days=3650)


def _policies(world: World, trust: dict[str, Any], who: dict[str, Any]) -> Any:
    from profiles.model.trust.verification import VerificationPart
    from tasks.trust.compiling import Policies

    document = {"trust": trust, "verify": {"rules": [{"match": ["**"], "signatures": {"from": [who]}}]}}
    part = VerificationPart.model_validate(document, context={"folder": world.folder})
    return Policies(part.trust, part.verify)


@pytest.mark.parametrize(
    ("level", "override", "admitted"),
    [
        ("strict", {}, False),
        ("permissive", {}, True),
        ("strict", {"expiry": "log"}, True),
        ("permissive", {"expiry": "enforce"}, False),
    ],
)
def test_levels_and_overrides_say_what_an_expiry_does(
    world: World,
    level: str,
    override: dict[str, str],
    admitted: bool,  # noqa: FBT001 - a table
) -> None:
    image = world.image().notary("jws", expiry=fixture_module().dt.datetime(2020, 1, 1, tzinfo=NOW.tzinfo))
    verdict = world.ask(image, signer("notation", level=level, override=override))
    assert verdict.admits is admitted
    if admitted:
        assert "expiry: the signature expired" in verdict.signatures[0].notes[0]
