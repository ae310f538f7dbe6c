"""`audit --attest keyless`: signed with the identity of a CI job, and verified by us and by cosign."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from profiles.model.trust.verification import VerificationPart
from registry_server.oci.media_types import OCI_MANIFEST
from tasks.stored.audit_statement import PREDICATE
from tasks.trust.candidates import SigningTarget, SigstoreBundle
from tasks.trust.compiling import Policies
from tasks.trust.errors import Refused
from tasks.trust.sigstore.keyless_signing import TOKEN, KeylessFailed, KeylessSigner
from tests.tasks.trust.attacker import policy
from tests.tasks.trust.sigstore.sigstore_services import Services, identity_token, running_services
from tests.tasks.trust.world import ISSUER, SUBJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from registry_server.oci.digest import Digest
    from tasks.trust.policy import Authority
    from tests.tasks.stored.audits import Mirror

STATEMENT = json.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "image", "digest": {"sha256": "0" * 64}}],
        "predicateType": PREDICATE,
        "predicate": {},
    }
).encode()


@pytest.fixture
def services() -> Iterator[Services]:
    with running_services() as running:
        yield running


def attest(mirrored: Mirror, config: Path, token: str) -> subprocess.CompletedProcess[str]:
    output = mirrored.folder / "result.json"
    arguments = ("audit", mirrored.profile(**policy()), "--attest", "keyless", "--output", output)
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from flows.cli import main; main()",
            *map(str, arguments),
            "--sigstore",
            config,
        ],
        env={**os.environ, "COLUMNS": "250", TOKEN: token},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_statement_is_signed_by_the_identity_of_the_job_and_verified_by_others(
    mirrored: Mirror, services: Services, tmp_path: Path
) -> None:
    token = identity_token()
    done = attest(mirrored, services.trust_config(tmp_path), token)
    assert done.returncode == 2, done.stderr
    assert "the signed statement is in" in done.stderr
    assert services.tokens == [f"Bearer {token}"]
    assert token not in done.stdout + done.stderr
    bundle = mirrored.folder / "result.json"
    root = services.trusted_root(tmp_path)
    authority = keyless_authority(root)
    candidate = SigstoreBundle("file", bundle.read_bytes())
    found = authority.check(candidate, SigningTarget(mirrored.digest("v1"), OCI_MANIFEST))
    assert (found.predicate_type, found.who, found.issuer) == (PREDICATE, SUBJECT, ISSUER)
    with pytest.raises(Refused, match="another image"):
        authority.check(candidate, SigningTarget(mirrored.digest("v2"), OCI_MANIFEST))
    if shutil.which("cosign"):
        assert cosign(root, bundle, mirrored.digest("v1"), SUBJECT).returncode == 0
        assert cosign(root, bundle, mirrored.digest("v2"), SUBJECT).returncode != 0
        assert cosign(root, bundle, mirrored.digest("v1"), "somebody else").returncode != 0


def keyless_authority(root: Path) -> Authority:
    rule = {
        "match": ["**"],
        "signatures": {
            "from": [
                {"name": "job", "type": "keyless", "root": "world", "issuer": ISSUER, "subject": SUBJECT}
            ]
        },
    }
    document = {"trust": {"sigstore": {"world": {"file": root.name}}}, "verify": {"rules": [rule]}}
    part = VerificationPart.model_validate(document, context={"folder": root.parent})
    found = Policies(part.trust, part.verify).for_image("any/image", "v1")
    assert found is not None
    [authority] = found.authorities
    return authority


def cosign(root: Path, bundle: Path, digest: Digest, subject: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("cosign", "verify-blob-attestation", "--type", PREDICATE, "--trusted-root", root),
            *("--certificate-identity", subject, "--certificate-oidc-issuer", ISSUER),
            *("--bundle", bundle, "--digest", digest.hex, "--digestAlg", "sha256"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(root.parent)},
    )


@pytest.mark.parametrize(
    ("token", "words"),
    [
        pytest.param("", f"no identity to sign with; put an OIDC token .* into {TOKEN}", id="none"),
        pytest.param("garbage-that-is-secret", "malformed", id="no token at all"),
        pytest.param(identity_token(-60), "malformed|validity", id="expired"),
        pytest.param(identity_token(aud="vault"), "malformed", id="for somebody else"),
    ],
)
def test_an_identity_that_cannot_be_used_is_one_line_before_the_work(
    mirrored: Mirror, services: Services, tmp_path: Path, token: str, words: str
) -> None:
    done = attest(mirrored, services.trust_config(tmp_path), token)
    assert done.returncode == 1
    assert re.search(words, done.stderr)
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert not token or token not in done.stderr
    assert done.stdout == ""
    assert services.tokens == []


def refuse(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 403, {"message": "no"}


def answer_nothing(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 200, {}


def lying(services: Services) -> Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]:
    """Signs the entry of another document."""
    honest = services.log

    def log(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        envelope = json.loads(request["spec"]["proposedContent"]["envelope"])
        envelope["payload"] = base64.b64encode(b"another").decode()
        request["spec"]["proposedContent"]["envelope"] = json.dumps(envelope)
        return honest(request)

    return log


WRONG: dict[str, tuple[str, Callable[[Services], Any], str]] = {
    "Fulcio refuses the identity": ("fulcio", lambda _: refuse, "403"),
    "Fulcio answers something else": ("fulcio", lambda _: answer_nothing, "chain"),
    "the certificate is in no log": ("fulcio", lambda each: partial(each.certify, with_sct=False), "stamp"),
    "Fulcio never answers": ("fulcio", lambda each: each.hang, "not done after 2 s"),
    "the log refuses": ("rekor", lambda _: refuse, "403"),
    "the log answers nothing": ("rekor", lambda _: answer_nothing, "entries"),
    "the log has another document": ("rekor", lying, "match"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_service_that_does_not_do_its_part_gives_no_bundle(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    service, made, words = WRONG[wrong]
    monkeypatch.setenv(TOKEN, identity_token())
    signer = replace(KeylessSigner.connect(services.trust_config(tmp_path)), timeout=2)
    setattr(services, service, made(services))
    with pytest.raises(KeylessFailed, match=words) as caught:
        signer.bundle(STATEMENT)
    assert os.environ[TOKEN] not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{}", "sigstore.json"), ("no json", "sigstore.json"), (None, "No such file")],
    ids=["empty", "not JSON", "no file"],
)
def test_a_trust_config_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, words: str
) -> None:
    monkeypatch.setenv(TOKEN, identity_token())
    path = tmp_path / "sigstore.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeylessFailed, match=words):
        KeylessSigner.connect(path)
