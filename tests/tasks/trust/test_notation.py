"""The Notary Project's rules, one by one."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tasks.trust.errors import Refused, refusing
from tasks.trust.notation.chain import check_chain, check_validity, trusted
from tasks.trust.notation.envelope import read_envelope
from tasks.trust.notation.identities import Identities
from tasks.trust.notation.revocation import Revocations
from tasks.trust.notation.timestamps import verify_token
from tests.tasks.trust.chains import CODE, NOW, Made, ca, crl, leaf, name, usage
from tests.tasks.trust.material import DATA, fixture_module, needs_material, subject_of
from tests.tasks.trust.world import COSE, JWS, World, signer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROOT = ca("root")
SIGN = (usage("digital_signature"), True)
URL = x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.test/x")], None, None, None)


@pytest.fixture
def own(tmp_path: Path, world: World) -> World:
    """A world whose files a test may change."""
    del world  # it skips the test where there is no material
    return World(tmp_path)


def _chain(*made: Made) -> list[x509.Certificate]:
    return [each.certificate for each in made]


@pytest.mark.parametrize(
    "kind", [pytest.param(ec.SECP256R1(), id="P-256"), pytest.param(ec.SECP384R1(), id="P-384")]
)
def test_a_chain_as_it_should_be_is_taken(kind: Any) -> None:
    middle = ca("middle", ROOT, path=0, key=ec.generate_private_key(kind))
    check_chain(_chain(leaf(middle), middle, ROOT))
    alone = leaf(None)
    check_chain(_chain(alone))
    assert trusted(_chain(alone), [alone.certificate]) == alone.certificate


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
        check_chain(_chain(*BROKEN[what]))


def test_every_certificate_has_to_be_valid_all_the_time() -> None:
    old = ca("old", end=NOW - timedelta(days=1))
    chain = _chain(leaf(old), old)
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


def _revoking(*lists: bytes, certificate: Made | None = None) -> None:
    made = certificate or leaf(ROOT)
    Revocations.from_files(lists).check(_chain(made, ROOT), NOW)


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
    world.notation = (made.key, _chain(made, root))
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


TOKENS = sorted(DATA.glob("tspclient-go/*/*.p7s")) + sorted(DATA.glob("notation-core-go/timestamp/*.p7s"))


@needs_material
@pytest.mark.parametrize("path", TOKENS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_real_timestamps_are_taken_when_nothing_is_wrong_with_them(path: Any) -> None:
    roots = [
        *x509.load_pem_x509_certificates((DATA / "tspclient-go/testdata/GlobalSignRootCA.crt").read_bytes()),
        x509.load_der_x509_certificate(
            (DATA / "notation/config/timestamp/globalsignTSARoot.cer").read_bytes()
        ),
    ]
    with refusing(""):
        if path.stem == "TimeStampToken":
            assert verify_token(path.read_bytes(), b"notation", roots).latest.year == 2021
            with pytest.raises(Exception, match="Mismatch"):
                verify_token(path.read_bytes(), b"notation2", roots)
            return
    with pytest.raises(Refused), refusing("bad"):
        verify_token(path.read_bytes(), b"notation", roots)


@needs_material
def test_an_authority_of_the_tokens_own_does_not_vouch_for_it(world: World) -> None:
    stranger = fixture_module().FakeSigstore()
    response = fixture_module().tsp.TimeStampResp.load(stranger.timestamp(b"x"))
    token = response["time_stamp_token"].dump()
    assert verify_token(token, b"x", [stranger.tsa_root]).latest >= stranger.now
    with pytest.raises(Refused), refusing("bad"):
        verify_token(token, b"x", [world.sigstore.tsa_root])


def test_a_timestamp_outside_of_the_chains_validity_does_not_help(world: World) -> None:
    long_ago = world.sigstore.now - timedelta(days=20)
    image = world.image().notary("cose", tsa=lambda message: world.sigstore.timestamp(message, when=long_ago))
    verdict = world.ask(image, signer("timestamped"))
    assert "at the time of the timestamp" in verdict.signatures[0].reasons[0]


def test_an_expired_certificate_needs_a_timestamp_of_its_time(own: World) -> None:
    world = own
    now = world.sigstore.now
    root = ca("root", start=now - timedelta(days=20), end=now + timedelta(days=20))
    made = leaf(root, start=now - timedelta(days=10), end=now - timedelta(days=1))
    pem = fixture_module().serialization.Encoding.PEM
    (world.folder / "ca.pem").write_bytes(root.certificate.public_bytes(pem))
    by = (made.key, _chain(made, root))
    then = lambda message: world.sigstore.timestamp(message, when=now - timedelta(days=2))  # noqa: E731 - one use
    stamped = world.image().notary("cose", signer=by, tsa=then)
    assert world.ask(stamped, signer("timestamped", verifyTimestamp="afterCertExpiry")).admits
    assert not world.ask(stamped, signer("notation")).admits
    assert not world.ask(world.image().notary("cose", signer=by), signer("timestamped")).admits
