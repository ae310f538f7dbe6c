"""A fingerprint changes with what decides whether an image passes, and with nothing else."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from profiles.model.trust.fingerprint import fingerprint
from profiles.model.trust.verification import VerificationPart
from tasks.trust.compiling import Policies
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Document = dict[str, Any]


def pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def revocation_list(folder: Path, name: str) -> None:
    """Of no certificate, by an issuer of its own."""
    now = dt.datetime.now(dt.UTC)
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(now)
    made = builder.next_update(now + dt.timedelta(days=1)).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    (folder / name).write_bytes(made.public_bytes(Encoding.PEM))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that a profile names: each with a copy under another name, and with one of other content."""
    for kind in ("acme", "other"):
        (tmp_path / f"{kind}.pub").write_text(pem())
        (tmp_path / kind).mkdir()
        (tmp_path / f"{kind}.pem").write_bytes(Authority(tmp_path / kind, kind).cert.read_bytes())
        revocation_list(tmp_path, f"{kind}.crl")
        (tmp_path / f"{kind}.json").write_text(f'{{"tlogs": ["{kind}"]}}')
    for ending in ("pub", "pem", "crl", "json"):
        (tmp_path / f"copy.{ending}").write_bytes((tmp_path / f"acme.{ending}").read_bytes())
    return tmp_path


def document() -> Document:
    signers = [
        {"name": "key", "type": "key", "key": "acme"},
        {
            "name": "id",
            "type": "keyless",
            "root": "world",
            "issuer": "https://a.example",
            "subject": "a@b.example",
        },
        {"name": "note", "type": "notation", "stores": ["ca:acme"], "identities": ["*"]},
        {"name": "ca", "type": "x509", "roots": ["acme.pem"], "subjectEmail": "a@b.example"},
    ]
    return {
        "trust": {
            "keys": {"acme": {"file": "acme.pub"}, "spare": {"file": "other.pub"}},
            "sigstore": {"world": {"file": "acme.json"}},
            "notation": {"ca": {"acme": ["acme.pem"]}, "crls": ["acme.crl"]},
        },
        "verify": {"rules": [{"match": ["**"], "signatures": {"from": signers}}]},
    }


def of(folder: Path, made: Document, number: int = 0) -> str:
    part = VerificationPart.model_validate(made, context={"folder": folder})
    assert part.verify is not None
    return fingerprint(part.verify.rules[number], part.trust)


def rule(made: Document) -> Document:
    found: Document = made["verify"]["rules"][0]
    return found


def signer(made: Document, number: int) -> Document:
    found: Document = rule(made)["signatures"]["from"][number]
    return found


def _renamed(made: Document) -> None:
    made["trust"]["keys"]["acme"] = {"file": "copy.pub"}
    made["trust"]["sigstore"]["world"] = {"file": "copy.json"}
    made["trust"]["notation"] = {"ca": {"acme": ["copy.pem"]}, "crls": ["copy.crl"]}
    signer(made, 3)["roots"] = ["copy.pem"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_renamed, id="other files with the same content"),
        pytest.param(lambda made: rule(made).update(match=["a/**", "b/**"]), id="which images it is for"),
        pytest.param(lambda made: rule(made).update(tags=["v*"]), id="which tags it is for"),
        pytest.param(lambda made: rule(made).update(onFailure="delete"), id="what follows when one fails"),
        pytest.param(
            lambda made: made["trust"]["keys"].update(spare={"pem": pem()}), id="a key that it does not use"
        ),
    ],
)
def test_what_judges_alike_has_the_same(folder: Path, change: Callable[[Document], None]) -> None:
    changed = document()
    change(changed)
    assert of(folder, changed) == of(folder, document())


def test_the_place_among_the_rules_is_no_part_of_it(folder: Path) -> None:
    moved = document()
    moved["verify"]["rules"].insert(0, {"match": ["x/**"], "mode": "skip"})
    assert of(folder, moved, 1) == of(folder, document())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda made: made["trust"]["keys"]["acme"].update(file="other.pub"), id="a replaced key"
        ),
        pytest.param(lambda made: made["trust"]["keys"]["acme"].update(hash="sha512"), id="the key's hash"),
        pytest.param(
            lambda made: made["trust"]["sigstore"]["world"].update(file="other.json"), id="a trusted root"
        ),
        pytest.param(
            lambda made: made["trust"]["notation"]["ca"].update(acme=["other.pem"]),
            id="a certificate of a store",
        ),
        pytest.param(lambda made: made["trust"]["notation"].update(crls=["other.crl"]), id="another CRL"),
        pytest.param(lambda made: made["trust"]["notation"].update(crls=[]), id="no CRL"),
        pytest.param(lambda made: signer(made, 3).update(roots=["other.pem"]), id="a CA"),
        pytest.param(lambda made: signer(made, 1).update(subject="c@d.example"), id="an identity"),
        pytest.param(lambda made: rule(made).update(mode="warn"), id="the mode"),
        pytest.param(lambda made: rule(made)["signatures"].update(need=2), id="how many"),
        pytest.param(lambda made: rule(made)["signatures"].update(indexChildren="each"), id="platforms"),
        pytest.param(lambda made: rule(made)["signatures"]["from"].pop(), id="one signer less"),
        pytest.param(
            lambda made: rule(made).update(
                attestations=[{"predicateType": "https://slsa.dev/provenance/v1", "from": ["key"]}]
            ),
            id="an attestation",
        ),
    ],
)
def test_what_may_judge_differently_has_another(folder: Path, change: Callable[[Document], object]) -> None:
    changed = document()
    change(changed)
    assert of(folder, changed) != of(folder, document())


@pytest.mark.parametrize(
    ("verify", "expected"),
    [
        pytest.param(
            {"rules": []}, "no rule", id="what no rule names is refused, always for the same reason"
        ),
        pytest.param({"rules": [], "default": {"require": "accept"}}, "", id="accepted: by no policy"),
        pytest.param({"rules": [{"match": ["**"], "mode": "skip"}]}, "", id="skipped: by no policy"),
    ],
)
def test_where_nothing_is_verified_it_is_constant(folder: Path, verify: Document, expected: str) -> None:
    part = VerificationPart.model_validate({"verify": verify}, context={"folder": folder})
    policies = Policies(part.trust, part.verify)
    assert policies.fingerprint_for("a/b", "v1") == expected
    assert policies.for_image("a/b", "v1").fingerprint == expected
