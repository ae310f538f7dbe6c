"""`audit --attest`: a signed statement of the result, that other tools verify."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_MANIFEST
from registry_server.oci.reference import Tag
from tasks.stored.audit_statement import PREDICATE
from tasks.trust.authorities.by_key import KeyAuthority
from tasks.trust.authorities.keys import TrustedKey
from tasks.trust.candidates import SigningTarget, SigstoreBundle
from tasks.trust.errors import Refused
from tests.tasks.companies import APP
from tests.tasks.stored.audits import FALLEN, KEYS, PASSWORD, Mirror, key_file, mirrorflow, statement_of
from tests.tasks.trust.attacker import (
    pem_of,
    policy,
)

if TYPE_CHECKING:
    from pathlib import Path


def public_file(folder: Path, key: Any) -> Path:
    path = folder / "audit.pub"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.mark.parametrize("kind", KEYS)
def test_the_statement_is_verified_by_others_for_what_passed_and_for_nothing_else(
    mirrored: Mirror, kind: str
) -> None:
    key = KEYS[kind]()
    bundle = mirrored.folder / "result.json"
    done = mirrorflow(
        "audit",
        mirrored.profile(**policy()),
        "--attest",
        key_file(mirrored.folder, key),
        "--output",
        bundle,
    )
    assert done.returncode == 2, done.stderr
    public = public_file(mirrored.folder, key)
    authority = KeyAuthority("auditor", TrustedKey.from_pem(public.read_bytes()))
    candidate = SigstoreBundle("file", bundle.read_bytes())
    found = authority.check(candidate, SigningTarget(mirrored.digest("v1"), OCI_MANIFEST))
    assert found.predicate_type == PREDICATE
    with pytest.raises(Refused, match="another image"):
        authority.check(candidate, SigningTarget(mirrored.digest("v2"), OCI_MANIFEST))
    assert found.statement is not None
    predicate = found.statement["predicate"]
    assert predicate["summary"] == {"passed": 3, "fallsShort": 1, "noPolicy": 0, "notJudged": {}}
    assert len(predicate["images"]) == 4
    assert (
        predicate["profile"]["digest"]["sha256"]
        == Digest.of((mirrored.folder / "profile.json").read_bytes()).hex
    )
    if shutil.which("cosign"):
        verified = cosign(public, bundle, mirrored.digest("v1"))
        assert verified.returncode == 0, verified.stderr
        assert cosign(public, bundle, mirrored.digest("v2")).returncode != 0


def cosign(public: Path, bundle: Path, digest: Digest) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("cosign", "verify-blob-attestation", "--insecure-ignore-tlog", "--type", PREDICATE),
            *("--key", public, "--bundle", bundle, "--digest", digest.hex, "--digestAlg", "sha256"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(public.parent)},
    )


def test_a_digest_that_falls_short_under_another_name_is_no_subject(mirrored: Mirror) -> None:
    more = policy()
    [rule] = more["verify"]["rules"]
    more["trust"]["keys"]["other"] = {"pem": pem_of(FALLEN)}
    stranger = {"from": [{"name": "other", "type": "key", "key": "other"}]}
    more["verify"]["rules"].insert(0, rule | {"tags": ["again"], "signatures": stranger})
    repository = mirrored.store.repository(APP)
    record = repository.tag(Tag("v1"))
    assert record is not None
    repository.put_tag(Tag("again"), record)
    subjects = statement_of(mirrored, more)["subject"]
    assert mirrored.digest("v3").hex in {each["digest"]["sha256"] for each in subjects}
    assert mirrored.digest("v1").hex not in {each["digest"]["sha256"] for each in subjects}


@pytest.mark.parametrize("variable", ["MIRRORFLOW_ATTEST_PASSWORD", "COSIGN_PASSWORD"])
def test_an_encrypted_key_is_opened_with_a_password_of_the_environment(
    mirrored: Mirror, variable: str
) -> None:
    key = key_file(mirrored.folder, KEYS["P-256"](), PASSWORD)
    bundle = mirrored.folder / "result.json"
    arguments = ("audit", mirrored.profile(**policy()), "--attest", key, "--output", bundle)
    done = mirrorflow(*arguments, **{variable: PASSWORD})
    assert done.returncode == 2, done.stderr
    assert bundle.exists()
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("content", "password", "words"),
    [
        pytest.param("encrypted", "", "the key is encrypted; put its password into", id="no password"),
        pytest.param(
            "encrypted", "wrong horse", "cannot be decrypted; check MIRRORFLOW_", id="another password"
        ),
        pytest.param(
            "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nc2VjcmV0\n-----END",
            PASSWORD,
            "cosign's own encryption",
            id="a key of cosign",
        ),
        pytest.param("no key", "", "not a private key in PEM", id="something else"),
        pytest.param("public", "", "not a private key in PEM", id="a public key"),
        pytest.param("", "", "not a private key in PEM", id="an empty file"),
        pytest.param(None, "", "cannot be read", id="no file"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_line_without_its_secrets(
    mirrored: Mirror, content: str | None, password: str, words: str
) -> None:
    made = KEYS["P-256"]()
    key = mirrored.folder / "audit.key"
    if content == "encrypted":
        key_file(mirrored.folder, made, PASSWORD)
    elif content == "public":
        shutil.copy(public_file(mirrored.folder, made), key)
    elif content is not None:
        key.write_text(content)
    more = {"MIRRORFLOW_ATTEST_PASSWORD": password}
    done = mirrorflow("audit", mirrored.profile(**policy()), "--attest", key, **more)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert all(secret not in done.stderr for secret in (PASSWORD, "wrong horse", "c2VjcmV0"))
    assert done.stdout == "", "a mistake is seen before the work"


@pytest.mark.parametrize(
    ("output", "more", "words"),
    [
        pytest.param("none/result.json", policy(), "there is no folder", id="no such folder"),
        pytest.param("store", policy(), "cannot be written", id="a folder"),
        pytest.param("result.json", policy(key=FALLEN), "no image was verified", id="nothing to say"),
        pytest.param("result.json", {}, "no image was verified", id="no policy verifies nothing"),
    ],
)
def test_a_statement_that_cannot_be_written_is_an_error(
    mirrored: Mirror, output: str, more: dict[str, Any], words: str
) -> None:
    key = key_file(mirrored.folder, KEYS["P-256"]())
    bundle = mirrored.folder / output
    done = mirrorflow("audit", mirrored.profile(**more), "--attest", key, "--output", bundle)
    assert done.returncode == 1
    assert words in done.stderr
    assert not bundle.is_file()


def test_a_store_that_is_not_there_is_an_error(mirrored: Mirror) -> None:
    shutil.rmtree(mirrored.folder / "store")
    assert mirrorflow("audit", mirrored.profile(**policy())).returncode == 1
