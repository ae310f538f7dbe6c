"""A private trust world (sig_fixture.py) and images that are signed in it, well and badly."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from profiles.model.trust.verification import VerificationPart
from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_MANIFEST
from tasks.trust.compiling import Policies
from tasks.trust.judging import judge
from tests.tasks.trust.material import BUNDLE_TYPE, Repository, fixture_module, subject_of

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.trust.verdict import Verdict

SUBJECT = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1.0.0"
ISSUER = "https://token.actions.githubusercontent.com"
SLSA = "https://slsa.dev/provenance/v1"
JWS, COSE = "application/jose+json", "application/cose"
SOURCE = "ghcr.io/acme/app"


def pem_of(key: Any) -> str:
    public = key.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def signer(kind: str, **more: Any) -> dict[str, Any]:
    """An entry of `signatures.from` for this world."""
    known: dict[str, dict[str, Any]] = {
        "key": {"key": "acme"},
        "logged": {"type": "key", "key": "acme", "root": "world"},
        "keyless": {"root": "world", "issuer": ISSUER, "subject": SUBJECT},
        "notation": {"stores": ["ca:acme"], "identities": ["x509.subject: C=US, ST=WA, O=acme"]},
        "timestamped": {
            "type": "notation",
            "stores": ["ca:acme", "tsa:world"],
            "identities": ["*"],
        },
    }
    return {"name": kind, "type": kind} | known[kind] | more


@dataclass
class World:
    """One key, one identity and one Notary Project certificate are trusted; `stranger` is another world."""

    folder: Path
    sigstore: Any = field(init=False)
    key: ec.EllipticCurvePrivateKey = field(init=False)
    notation: tuple[Any, list[Any]] = field(init=False)

    def __post_init__(self) -> None:
        fixture = fixture_module()
        self.sigstore = fixture.FakeSigstore()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.notation = fixture.notation_chain()
        (self.folder / "root.json").write_text(json.dumps(self.sigstore.trusted_root()))
        (self.folder / "acme.pub").write_text(pem_of(self.key))
        (self.folder / "ca.pem").write_bytes(self.notation[1][1].public_bytes(Encoding.PEM))
        (self.folder / "tsa.pem").write_bytes(self.sigstore.tsa_root.public_bytes(Encoding.PEM))

    @property
    def trust(self) -> dict[str, Any]:
        return {
            "sigstore": {"world": {"file": "root.json"}},
            "keys": {"acme": {"file": "acme.pub"}},
            "notation": {"ca": {"acme": ["ca.pem"]}, "tsa": {"world": ["tsa.pem"]}},
        }

    def policies(self, *rules: dict[str, Any], **verify: Any) -> Policies:
        """Rules as they stand in a profile."""
        document = {"trust": self.trust, "verify": {"rules": list(rules)} | verify}
        part = VerificationPart.model_validate(document, context={"folder": self.folder})
        return Policies(part.trust, part.verify)

    def ask(self, image: SignedImage, *signers: dict[str, Any], **rule: Any) -> Verdict:
        """The verdict of one rule with these signers."""
        signatures = {"from": list(signers)} | rule.pop("signatures", {})
        policies = self.policies({"match": ["**"], "signatures": signatures} | rule)
        return image.judged(policies)

    def image(self, name: str = "image") -> SignedImage:
        return SignedImage(self, name)


@dataclass
class SignedImage:
    """An image in a repository, and the ways to sign it. `claimed` is the digest that signatures name."""

    world: World
    name: str
    repository: Repository = field(default_factory=Repository)
    layers: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": [], "n": self.name}
        ).encode()

    @property
    def digest(self) -> Digest:
        return Digest.of(self.body)

    def judged(self, policies: Policies, *, tag: str | None = "v1.0.0", **more: Any) -> Verdict:
        policy = policies.for_image(SOURCE, tag)
        reference = f"{SOURCE}:{tag}" if tag else SOURCE
        size = len(self.body)
        return judge(
            self.digest, OCI_MANIFEST, self.repository, policy, size=size, reference=reference, **more
        )

    def cosign(self, *, claimed: Digest | None = None, **more: Any) -> SignedImage:
        """A layer under the `.sig` tag; `leaf` or `key`, `tlog`, `tsa`, `annotations` as in sig_fixture."""
        self.layers.append(self.world.sigstore.legacy_layer(claimed or self.digest, **more))
        self.repository.sign_legacy(self.digest, self.layers)
        return self

    def cosign_by(self, sigstore: Any, **more: Any) -> SignedImage:
        """As `cosign`, in another world."""
        self.layers.append(sigstore.legacy_layer(self.digest, **more))
        self.repository.sign_legacy(self.digest, self.layers)
        return self

    def bundle(self, document: dict[str, Any]) -> SignedImage:
        content = json.dumps(document).encode()
        self.repository.attach(subject_of(self.body), content, BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
        return self

    def statement(self, **more: Any) -> bytes:
        found: bytes = self.world.sigstore.statement(self.digest, **more)
        return found

    def notary(self, fmt: str, *, claimed: dict[str, Any] | None = None, **more: Any) -> SignedImage:
        key, chain = more.pop("signer", self.world.notation)
        target = claimed or subject_of(self.body)
        content = fixture_module().notation_sign(target, key, chain, fmt, **more)
        self.repository.attach(subject_of(self.body), content, JWS if fmt == "jws" else COSE)
        return self

    def attestation(self, **more: Any) -> SignedImage:
        """A `.att` tag with cosign's older form, by the world's identity."""
        fixture, sigstore = fixture_module(), self.world.sigstore
        leaf = more.pop("leaf", None) or sigstore.leaf()
        old = {"stype": "https://in-toto.io/Statement/v0.1", "subject_name": SOURCE}
        statement = self.statement(**(old | {"ptype": SLSA} | more))
        envelope = sigstore.bundle_dsse(statement, leaf)["dsseEnvelope"]
        raw = fixture.jcs(envelope)
        signature = fixture.base64.b64decode(envelope["signatures"][0]["sig"])
        certificate = fixture.pem(leaf[1])
        annotations = {
            "dev.cosignproject.cosign/signature": "",
            "dev.sigstore.cosign/certificate": certificate.decode(),
            "dev.sigstore.cosign/bundle": sigstore.rekor_bundle(
                sigstore.body_dsse(raw, statement, signature, certificate)
            ),
        }
        layer = {"mediaType": "application/vnd.dsse.envelope.v1+json", "digest": Digest.of(raw)}
        self.repository.sign_legacy(
            self.digest, [(raw, layer | {"size": len(raw), "annotations": annotations})], "att"
        )
        return self


def yesterday() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
