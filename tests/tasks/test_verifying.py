"""What a policy keeps out, from an upstream that holds the good and the bad side by side (invariant 4)."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_CONFIG, OCI_MANIFEST
from registry_server.oci.reference import RepositoryName
from tasks.results.outcomes import Outcome
from tests.support_misbehaving import Misbehaving, answers
from tests.tasks.runs import mirror, opened, rows, store_of, visible

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.results.report import Report

OURS, THEIRS = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
APP = RepositoryName("app")


def policy(upstream: Misbehaving, mode: str = "enforce") -> dict[str, Any]:
    pem = OURS.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    signer = {"name": "team", "type": "key", "key": "team"}
    return {
        "trust": {"keys": {"team": {"pem": pem}}},
        "verify": {
            "rules": [
                {"match": [f"{upstream.host}/**"], "mode": mode, "signatures": {"from": [signer]}},
            ]
        },
    }


def sign(
    upstream: Misbehaving, digest: Digest, key: ec.EllipticCurvePrivateKey, *, claims: Digest | None = None
) -> None:
    """As `cosign sign --key` leaves it: a manifest under the tag `sha256-<hex>.sig`."""
    claimed = claims or digest
    critical = {
        "identity": {"docker-reference": ""},
        "image": {"docker-manifest-digest": str(claimed)},
        "type": "cosign container image signature",
    }
    payload = json.dumps({"critical": critical, "optional": None}).encode()
    signature = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    layer = upstream.add_blob("app", payload, PAYLOAD).to_json()
    layer["annotations"] = {"dev.cosignproject.cosign/signature": signature}
    config = upstream.add_blob("app", b"{}", OCI_CONFIG).to_json()
    body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    upstream.add_manifest("app", f"sha256-{digest.hex}.sig", json.dumps(body).encode(), OCI_MANIFEST)


def fill(upstream: Misbehaving) -> dict[str, Digest]:
    made = {
        tag: upstream.add_image("app", tag, (b"layer of " + tag.encode(),)).manifest.digest
        for tag in ("signed", "unsigned", "stranger", "borrowed")
    }
    sign(upstream, made["signed"], OURS)
    sign(upstream, made["stranger"], THEIRS)
    sign(upstream, made["borrowed"], OURS, claims=made["signed"])
    return made


def run(folder: Path, upstream: Misbehaving, **profile: Any) -> Report:
    with opened(folder, f"http://{upstream.host}", more=profile) as running:
        return mirror(running)


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        pytest.param("unsigned", "it has no signature", id="nothing"),
        pytest.param("stranger", "its signature does not count", id="another key"),
        pytest.param("borrowed", "its signature does not count", id="of another image"),
    ],
)
def test_what_is_not_signed_by_whom_the_profile_trusts_stays_out(
    upstream: Misbehaving, tmp_path: Path, tag: str, why: str
) -> None:
    made = fill(upstream)
    report = run(tmp_path, upstream, **policy(upstream))
    outcome = rows(report)[f"app:{tag}"]
    assert outcome.outcome is Outcome.FAILED
    assert outcome.step == "verify_signature"
    assert why in outcome.reason
    assert f"app:{tag}" not in visible(store_of(tmp_path))
    assert not store_of(tmp_path).repository(APP).has_blob(made[tag])


def test_exactly_the_signed_image_and_its_signature_get_in(upstream: Misbehaving, tmp_path: Path) -> None:
    made = fill(upstream)
    report = run(tmp_path, upstream, **policy(upstream))
    assert visible(store_of(tmp_path)) == [f"app:sha256-{made['signed'].hex}.sig", "app:signed"]
    assert rows(report)["app:signed"].verdict.startswith("verified: ")
    assert "team" in rows(report)["app:signed"].verdict


def test_no_layer_of_a_refused_image_is_fetched(upstream: Misbehaving, tmp_path: Path) -> None:
    fill(upstream)
    run(tmp_path, upstream, **policy(upstream))
    layer = Digest.of(b"layer of unsigned")
    assert not upstream.requests("GET", f"/blobs/{layer}")


def test_warn_admits_and_says_why_it_should_not(upstream: Misbehaving, tmp_path: Path) -> None:
    fill(upstream)
    report = run(tmp_path, upstream, **policy(upstream, "warn"))
    assert "app:unsigned" in visible(store_of(tmp_path))
    assert rows(report)["app:unsigned"].verdict == "admitted with a warning: it has no signature"


def test_only_signed_looks_whether_there_is_a_signature_and_never_says_verified(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    fill(upstream)
    with opened(tmp_path, f"http://{upstream.host}", onlySigned=True) as running:
        report = mirror(running)
    found = rows(report)
    assert found["app:unsigned"].outcome is Outcome.SKIPPED
    assert found["app:unsigned"].reason == "onlySigned: it has no signature"
    assert report.complete, "what a rule leaves out is not missing"
    assert found["app:stranger"].verdict == "signature present, not verified"
    assert not any(row.verdict.startswith("verified") for row in found.values())


def test_an_upstream_that_cannot_be_asked_is_an_error_and_not_unsigned(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    made = fill(upstream)
    upstream.on(f"/v2/app/manifests/sha256-{made['signed'].hex}.sig", answers(500))
    report = run(tmp_path, upstream, **policy(upstream))
    assert rows(report)["app:signed"].outcome is Outcome.FAILED
    assert "500" in rows(report)["app:signed"].reason
    assert visible(store_of(tmp_path)) == []


def test_an_image_under_the_tag_of_a_companion_stays_out(upstream: Misbehaving, tmp_path: Path) -> None:
    made = fill(upstream)
    smuggled = f"sha256-{made['signed'].hex}.att"
    upstream.add_image("app", smuggled, (b"something to run",))
    report = run(tmp_path, upstream, **policy(upstream))
    assert rows(report)[f"app:{smuggled}"].outcome is Outcome.SKIPPED
    assert "is of no format that may follow an image here" in rows(report)[f"app:{smuggled}"].reason
    assert f"app:{smuggled}" not in visible(store_of(tmp_path))


_WITHOUT_A_POLICY = """
import sys
from pathlib import Path
from profiles.loader import parse_profile
from tasks import pipeline, planning, verify_signature
from tasks.context.verification import Verification
from tasks.filter_tags import search
from tasks.on_demand import service
from tasks.results import report
text = '{"storage": {"rootDirectory": "s"}, "sync": {"registries": [{"urls": ["https://r.example"]}]}}'
profile = parse_profile(text, Path("p.json")).profile
assert not Verification.of(profile, profile.sync.registries[0])
heavy = ("sigstore", "sigstore_models", "rfc3161_client", "cbor2", "asn1crypto", "tasks.trust")
print(*{name for name in sys.modules if name.startswith(heavy)})
"""


def test_without_a_policy_nothing_that_verifies_is_imported() -> None:
    """It costs half a second and tens of megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_A_POLICY], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
