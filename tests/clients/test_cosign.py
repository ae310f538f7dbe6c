"""What real cosign signs, attests and verifies, and what the mirror says of it: the same, cell by cell.

A key of each kind, cosign's older form and its bundles, a registry with the referrers API and one without.
Without a network: no transparency log.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from flows.cli.verify import verify_image
from profiles.loader import parse_profile
from registry_server.http.server_process import running_server
from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_CONFIG, OCI_MANIFEST
from registry_server.oci.reference import RepositoryName
from tests.support.docker_registry import running_docker_registry
from tests.support.registries import running_registry
from tests.tasks.runs import mirror, opened, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


COSIGN = shutil.which("cosign")
pytestmark = pytest.mark.skipif(COSIGN is None, reason="cosign is not installed")

KEYS: dict[str, Any] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA 3072": lambda: rsa.generate_private_key(65537, 3072),
    "RSA 4096": lambda: rsa.generate_private_key(65537, 4096),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
PREDICATE = "https://cosign.sigstore.dev/attestation/v1"  # cosign's "custom"
QUIET = {"COSIGN_PASSWORD": "", "COSIGN_YES": "true"}


@dataclass(frozen=True)
class Signed:
    """An image in a repository of its own, that a key has signed."""

    host: str
    repository: str
    digest: Digest
    keys: Path  # key.key, key.pub, and other.pub that has signed nothing

    @property
    def reference(self) -> str:
        return f"{self.host}/{self.repository}@{self.digest}"


def cosign(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert COSIGN is not None
    command = [COSIGN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | QUIET)


def push_image(url: str, repository: str) -> Digest:
    """Over HTTP, to a registry of any kind."""
    layer = repository.encode()
    blobs = (layer, b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": Digest.of(b"{}"), "size": 2},
        "layers": [{"mediaType": "a/b", "digest": Digest.of(layer), "size": len(layer)}],
    }
    body = json.dumps(document).encode()
    with httpx.Client(base_url=url) as client:
        for blob in blobs:
            began = client.post(f"/v2/{repository}/blobs/uploads/")
            began.raise_for_status()
            place = httpx.URL(began.headers["Location"]).copy_add_param("digest", Digest.of(blob))
            client.put(place, content=blob).raise_for_status()
        headers = {"Content-Type": OCI_MANIFEST}
        client.put(f"/v2/{repository}/manifests/v1", content=body, headers=headers).raise_for_status()
    return Digest.of(body)


def write_keys(folder: Path, kind: str) -> None:
    for name in ("key", "other"):
        key = KEYS[kind]()
        pem = folder / f"{name}.pem"
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    done = cosign(
        "import-key-pair", "--key", str(folder / "key.pem"), "--output-key-prefix", str(folder / "key")
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=["docker-registry", "bundled"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    if request.param == "bundled":  # it has the referrers API
        with running_registry(folder, writable=True) as found:
            yield found.url
        return
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    with running_docker_registry(program, folder, root=folder / "root") as other:
        yield other.url


@dataclass(frozen=True)
class Cell:
    """One way to sign."""

    kind: str
    form: str
    attested: bool

    @property
    def cosign_cannot(self) -> bool:
        """cosign 3.1 signs with Ed25519ph, and its own `verify` knows pure Ed25519 only: it refuses what it
        has signed. The signature is by the key and over the image, and counts here."""
        return self.kind == "Ed25519"

    def __str__(self) -> str:
        return f"{self.kind}-{self.form}-{'attestation' if self.attested else 'signature'}"


CELLS = [
    Cell(kind, form, attested) for kind in KEYS for form in ("bundle", "older") for attested in (False, True)
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_mirror_says_what_cosign_says(registry: str, tmp_path: Path, cell: Cell) -> None:
    write_keys(tmp_path, cell.kind)
    repository = re.sub(r"[^a-z0-9]+", "-", str(cell).lower())
    signed = Signed(registry.partition("//")[2], repository, push_image(registry, repository), tmp_path)
    made = sign(signed, cell)
    for key in ("key", "other"):
        ours, theirs = says(signed, key, cell), cosign_says(signed, key, cell)
        assert ours is (key == "key"), made
        assert theirs is (ours and not cell.cosign_cannot)


def sign(signed: Signed, cell: Cell) -> str:
    predicate = signed.keys / "predicate.json"
    predicate.write_text('{"passed": true}')
    attesting = ["attest", "--type", "custom", "--predicate", str(predicate)]
    options = [
        *("--key", str(signed.keys / "key.key"), "--allow-http-registry", "--tlog-upload=false"),
        *(
            "--use-signing-config=false",
            f"--new-bundle-format={'true' if cell.form == 'bundle' else 'false'}",
        ),
    ]
    return cosign(*(attesting if cell.attested else ["sign"]), *options, signed.reference).stderr


def says(signed: Signed, key: str, cell: Cell) -> bool:
    """What the policy of a profile makes of the image."""
    signer = {"name": "k", "type": "key", "key": "k"}
    rule: dict[str, Any] = {
        "match": ["**"],
        "signatures": {"from": [signer], "need": 0 if cell.attested else 1},
    }
    if cell.attested:
        rule["attestations"] = [{"predicateType": PREDICATE, "from": ["k"]}]
    document = {
        "storage": {"rootDirectory": "store"},
        "trust": {"keys": {"k": {"file": f"{key}.pub"}}},
        "verify": {"rules": [rule]},
        "sync": {"registries": [{"urls": [f"http://{signed.host}"], "content": [{"prefix": "**"}]}]},
    }
    profile = parse_profile(json.dumps(document), signed.keys / "profile.json").profile
    return verify_image(profile, f"{signed.repository}:v1").admits


def cosign_says(signed: Signed, key: str, cell: Cell) -> bool:
    command = ["verify-attestation", "--type", "custom"] if cell.attested else ["verify"]
    options = ["--key", str(signed.keys / f"{key}.pub"), "--insecure-ignore-tlog", "--allow-http-registry"]
    # It signs with the hash of the curve, and verifies with SHA-256 unless told.
    hashed = {"P-384": "sha384", "P-521": "sha512"}.get(cell.kind, "sha256")
    return (
        cosign(*command, *options, "--signature-digest-algorithm", hashed, signed.reference).returncode == 0
    )


def test_what_cosign_signs_and_attaches_follows_the_image_under_enforce(
    registry: str, tmp_path: Path
) -> None:
    """In both forms, with an attestation and an SBOM; and cosign verifies from the mirror."""
    write_keys(tmp_path, "P-256")
    signed = Signed(registry.partition("//")[2], "attached", push_image(registry, "attached"), tmp_path)
    for form in ("bundle", "older"):
        for attested in (False, True):
            sign(signed, Cell("P-256", form, attested))
    sbom = tmp_path / "sbom.json"
    sbom.write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    options = ["--sbom", str(sbom), "--type", "cyclonedx", "--allow-http-registry"]
    assert cosign("attach", "sbom", *options, signed.reference).returncode == 0
    rule = {"match": ["**"], "signatures": {"from": [{"name": "k", "type": "key", "key": "k"}]}}
    more = {"trust": {"keys": {"k": {"file": "key.pub"}}}, "verify": {"rules": [rule]}}
    with opened(tmp_path, registry, {"prefix": "attached"}, more=more) as run:
        report = mirror(run)
    assert report.complete, report.message
    stem = f"sha256-{signed.digest.hex}"
    tags = store_of(tmp_path).repository(RepositoryName("attached")).tags()
    assert tags == [f"{stem}.att", f"{stem}.sbom", f"{stem}.sig", "v1"]
    assert len(store_of(tmp_path).repository(RepositoryName("attached")).referrers(signed.digest)) == 2
    with running_server(store_of(tmp_path).root) as url:
        mirrored = replace(signed, host=url.partition("//")[2])
        for attested in (False, True):
            assert cosign_says(mirrored, "key", Cell("P-256", "bundle", attested))
