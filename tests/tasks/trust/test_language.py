"""What a profile may say of trust, and what is refused while it is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from profiles.errors import ProfileInvalid, Refusal, Refusals
from profiles.loader import parse_profile
from profiles.model.trust.signers import Extensions
from profiles.model.trust.verification import VerificationPart
from tasks.trust.authorities.certificate_identity import EXTENSIONS, OLD_EXTENSIONS
from tasks.trust.compiling import Policies
from tasks.trust.errors import TrustBroken
from tests.tasks.trust.world import ISSUER, World, pem_of, signer

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[3]
SMALL_RSA = pem_of(rsa.generate_private_key(65537, 1024))  # noqa: S505 - refused, that is the point
OLD_DSA = pem_of(dsa.generate_private_key(1024))  # noqa: S505 - as above
PEM = pem_of(ec.generate_private_key(ec.SECP256R1()))


def _load(document: Mapping[str, Any], folder: Path) -> VerificationPart:
    return VerificationPart.model_validate(document, context={"folder": folder})


def _said(error: ValidationError) -> str:
    """All that is wrong, with where it stands."""
    lines = []
    for detail in error.errors():
        cause = detail.get("ctx", {}).get("error")
        each = cause.refusals if isinstance(cause, Refusals) else [cause]
        for one in each:
            at = (*detail["loc"], *(one.at if isinstance(one, Refusal) else ()))
            lines.append(f"{'.'.join(map(str, at))}: {one or detail['msg']}")
    return "\n".join(lines)


def _refused(document: Mapping[str, Any], folder: Path) -> str:
    with pytest.raises(ValidationError) as refusal:
        _load(document, folder)
    return _said(refusal.value)


def _signers(*signers: dict[str, Any], **signatures: Any) -> dict[str, Any]:
    rule = {"match": ["**"], "signatures": {"from": list(signers)} | signatures}
    return {"trust": {"keys": {"acme": {"pem": PEM}}}, "verify": {"rules": [rule]}}


KEY: dict[str, Any] = {"name": "k", "type": "key", "key": "acme"}
KEYLESS: dict[str, Any] = {
    "name": "w",
    "type": "keyless",
    "root": "public",
    "issuer": ISSUER,
    "subject": "a@b.test",
}
NOTATION: dict[str, Any] = {"name": "n", "type": "notation", "stores": ["ca:acme"], "identities": ["*"]}


def _private() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("pem", "what"),
    [
        pytest.param(_private(), "a private key, which signs", id="private key"),
        pytest.param(PEM + _private(), "a private key, which signs", id="both halves"),
        pytest.param(
            "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n"
            "-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
            "cosign public-key --key FILE",
            id="cosign.key",
        ),
        pytest.param(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "openssl x509 -pubkey",
            id="certificate",
        ),
        pytest.param("AAAA", "not a public key in PEM", id="no PEM"),
        pytest.param(
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key", id="broken"
        ),
    ],
)
def test_a_key_that_is_none_is_refused_once_and_nothing_follows_from_it(pem: str, what: str) -> None:
    document = _signers(KEY) | {"trust": {"keys": {"acme": {"pem": pem}}}, "storage": {"rootDirectory": "s"}}
    document["sync"] = {"registries": [{"urls": ["https://registry.example"], "content": [{"prefix": "**"}]}]}
    with pytest.raises(ProfileInvalid) as refused:
        parse_profile(json.dumps(document), Path("profile.json"))
    [problem] = refused.value.problems
    assert problem.path == "trust.keys.acme"
    assert what in str(problem)
    assert "AAAA" not in str(problem)


@pytest.mark.parametrize(
    ("signers", "where", "what"),
    [
        pytest.param([KEY | {"key": "other"}], "from.0.key", "is not in trust.keys", id="unknown key"),
        pytest.param([KEYLESS], "from.0.root", "is not in trust.sigstore", id="unknown root"),
        pytest.param([NOTATION], "from.0.stores.0", "is not in trust.notation", id="unknown store"),
        pytest.param(
            [KEY | {"issuer": "x"}], "from.0.issuer", "means nothing for type key", id="foreign key"
        ),
        pytest.param([{"name": "k", "type": "key"}], "from.0.key", "it names no key", id="no key"),
        pytest.param(
            [KEY | {"transparency": "required"}],
            "from.0.root",
            "no root names the logs",
            id="log without root",
        ),
        pytest.param(
            [{name: value for name, value in KEYLESS.items() if name != "issuer"}],
            "from.0.issuer",
            "an identity is an issuer and a subject",
            id="no issuer",
        ),
        pytest.param(
            [{name: value for name, value in KEYLESS.items() if name != "subject"}],
            "from.0.subject",
            "an identity is an issuer and a subject",
            id="no subject",
        ),
        pytest.param([KEYLESS | {"subjectRegexp": ".*"}], "from.0.subject", "given twice", id="two subjects"),
        pytest.param(
            [KEYLESS | {"subject": None, "subjectRegexp": "("}],
            "from.0.subjectRegexp",
            "not a regular expression",
            id="bad regexp",
        ),
        pytest.param(
            [NOTATION | {"stores": ["tsa:x"]}], "from.0.stores", "no store vouches for signers", id="no ca"
        ),
        pytest.param(
            [NOTATION | {"identities": ["*", "x509.subject: C=US, ST=WA, O=a"]}],
            "from.0.identities",
            "'*' stands alone",
            id="* and others",
        ),
        pytest.param(
            [NOTATION | {"identities": ["x509.subject: C=US, O=a"]}],
            "from.0",
            "needs at least C, ST and O",
            id="no state",
        ),
        pytest.param(
            [NOTATION | {"identities": ["C=US, ST=WA, O=a"]}], "from.0", "is no identity", id="no prefix"
        ),
        pytest.param(
            [
                NOTATION
                | {"identities": ["x509.subject: C=US, ST=WA, O=a", "x509.subject: C=US, ST=WA, O=a, CN=b"]}
            ],
            "from.0.identities",
            "one identity contains another",
            id="overlap",
        ),
        pytest.param([NOTATION | {"level": "skip"}], "from.0.level", "", id="level skip"),
        pytest.param(
            [NOTATION | {"override": {"integrity": "log"}}], "integrity", "", id="integrity always holds"
        ),
        pytest.param(
            [NOTATION | {"override": {"expiry": "skip"}}], "expiry", "", id="only revocation is skipped"
        ),
        pytest.param(
            [{"name": "x", "type": "x509", "subjectEmail": "a@b"}],
            "from.0.roots",
            "it names no CA",
            id="no CA",
        ),
        pytest.param([KEY, KEY], "signatures.from", "two signers have one name", id="same name"),
        pytest.param([], "signatures.from", "nobody may sign", id="nobody"),
        pytest.param([KEY | {"ket": "acme"}], "from.0.ket", "", id="misspelled"),
    ],
)
def test_a_signer_that_cannot_work_is_refused_with_its_place(
    tmp_path: Path, signers: list[dict[str, Any]], where: str, what: str
) -> None:
    said = _refused(_signers(*signers), tmp_path)
    assert where in said
    assert what in said


@pytest.mark.parametrize(
    ("document", "what"),
    [
        pytest.param(_signers(KEY, need=2), "more are needed than may sign", id="2 of 1"),
        pytest.param(_signers(KEY, need=0), "nothing is needed", id="0 of 1"),
        pytest.param(_signers(KEY, minAge="0s"), "longer than 0", id="no age"),
        pytest.param(_signers(KEY, formats=["gpg"]), "formats", id="unknown format"),
        pytest.param({"trust": {"keys": {"a b": {"pem": PEM}}}}, "is not a name", id="a name with a space"),
        pytest.param({"trust": {"keys": {"a": {}}}}, "write either file or pem", id="no key at all"),
        pytest.param({"trust": {"keys": {"a": {"pem": "x"}}}}, "not a public key in PEM", id="no PEM"),
        pytest.param({"trust": {"keys": {"a": {"file": "no.pub"}}}}, "cannot be read", id="no such file"),
        pytest.param(
            {"trust": {"keys": {"a": {"pem": PEM, "ed25519ph": True}}}}, "ed25519ph", id="Ed25519ph"
        ),
        pytest.param(
            {"trust": {"keys": {"a": {"pem": SMALL_RSA}}}},
            "not accepted",
            id="small RSA",
        ),
        pytest.param(
            {"trust": {"keys": {"a": {"pem": OLD_DSA}}}},
            "not accepted",
            id="DSA",
        ),
        pytest.param({"trust": {"sigstore": {"a": {}}}}, "write one of builtin", id="no root at all"),
        pytest.param({"trust": {"sigstore": {"a": {"builtin": "x"}}}}, "builtin", id="unknown built-in root"),
        pytest.param({"trust": {"sigstore": {"a": {"file": "bad"}}}}, "no Sigstore trust root", id="no root"),
        pytest.param({"trust": {"notation": {"ca": {"a": ["bad"]}}}}, "no certificate", id="no certificate"),
        pytest.param({"trust": {"notation": {"crls": ["bad"]}}}, "no revocation list", id="no CRL"),
        pytest.param({"trust": {"gpg": {}}}, "gpg", id="unknown section"),
        pytest.param({"verify": {"rules": [{"match": []}]}}, "match", id="a rule for nothing"),
        pytest.param({"verify": {"rules": [{"match": ["**"], "mode": "audit"}]}}, "mode", id="unknown mode"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, document: dict[str, Any], what: str) -> None:
    (tmp_path / "bad").write_text("nothing")
    assert what in _refused(document, tmp_path)


def test_attestations_are_checked_at_load(tmp_path: Path) -> None:
    document = _signers(KEY)
    document["verify"]["rules"][0]["attestations"] = [
        {"predicateType": "a", "from": ["nobody"]},
        {"predicateType": "b", "from": ["k"], "need": 2},
    ]
    said = _refused(document, tmp_path)
    assert "verify.rules.0.attestations.0.from.0: 'nobody' is not in signatures.from" in said
    assert "attestations.1.need: more are needed" in said


@pytest.mark.parametrize("condition", ["predicate.", "1 ==", "unknown_function(predicate)", 3])
def test_a_condition_that_is_no_expression_is_refused_or_never_met(tmp_path: Path, condition: Any) -> None:
    document = _signers(KEY)
    attestation = {"predicateType": "a", "from": ["k"], "condition": condition}
    document["verify"]["rules"][0]["attestations"] = [attestation]
    if condition == "unknown_function(predicate)":
        rule = _load(document, tmp_path).verify
        assert rule is not None
        found = rule.rules[0].attestations[0].condition
        assert found is not None
        assert found.judge({"predicate": {}})[0] is False
    else:
        assert "condition" in _refused(document, tmp_path)


@pytest.mark.parametrize("more", [{"level": "audit"}, {"override": {"authenticity": "log"}}])
def test_what_takes_anybody_cannot_enforce(world: World, more: dict[str, Any]) -> None:
    rule = {"match": ["**"], "signatures": {"from": [signer("notation", **more)]}}
    document = {"trust": world.trust, "verify": {"rules": [rule]}}
    assert "whoever signed is only logged" in _refused(document, world.folder)
    _load({"trust": world.trust, "verify": {"rules": [rule | {"mode": "warn"}]}}, world.folder)


def test_a_root_of_log_keys_is_for_keys_only(world: World) -> None:
    (world.folder / "rekor.pub").write_text(pem_of(world.sigstore.rekor))
    trust = world.trust | {"sigstore": {"world": {"rekorKeys": ["rekor.pub"]}}}
    rule = {"match": ["**"], "signatures": {"from": [signer("keyless")]}}
    assert "knows no CA" in _refused({"trust": trust, "verify": {"rules": [rule]}}, world.folder)
    rule = {"match": ["**"], "signatures": {"from": [signer("logged")]}}
    part = _load({"trust": trust, "verify": {"rules": [rule]}}, world.folder)
    image = world.image().cosign(key=world.key)
    assert image.judged(Policies(part.trust, part.verify)).admits


def test_a_root_that_sigstore_does_not_take_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text('{"tlogs": [{"baseUrl": "https://log.test"}]}')
    document = _signers(KEYLESS | {"root": "bad"})
    document["trust"]["sigstore"] = {"bad": {"file": "root.json"}}
    part = _load(document, tmp_path)
    with pytest.raises(TrustBroken, match="not a Sigstore trust root"):
        Policies(part.trust, part.verify).check()


def test_the_words_for_extensions_are_those_that_are_looked_for() -> None:
    assert set(Extensions.model_fields) == set(EXTENSIONS) | set(OLD_EXTENSIONS)


def test_nothing_is_verified_without_the_section(tmp_path: Path) -> None:
    part = _load({}, tmp_path)
    assert Policies(part.trust, part.verify).for_image("a/b", "1").name == "no rule"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (
            "import profiles.model.trust.verification, tasks.trust.compiling, tasks.trust.judging",
            {"sigstore", "cryptography"},
        ),
        ("import tasks.trust.authorities.by_key", {"sigstore", "cbor2", "asn1crypto", "rfc3161_client"}),
        ("import tasks.trust.notation.authority", {"sigstore"}),
        ("import tasks.trust.judging", {"prefect", "httpx"}),
    ],
)
def test_what_a_policy_does_not_need_is_not_imported(code: str, heavy: set[str]) -> None:
    program = f"{code}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not heavy & set(done.stdout.split())
