"""cases.json: verdicts that the upstream projects expect, asked of our `judge`."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509

from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_MANIFEST
from tasks.trust.authorities.by_ca import CaAuthority
from tasks.trust.authorities.by_certificate import KeylessAuthority
from tasks.trust.authorities.by_key import KeyAuthority
from tasks.trust.authorities.keys import TrustedKey
from tasks.trust.errors import Refused, TrustBroken
from tasks.trust.judging import judge
from tasks.trust.notation.authority import LEVELS, NotationAuthority
from tasks.trust.policy import Mode, Policy
from tasks.trust.sigstore.root import SigstoreRoot
from tests.tasks.trust.material import BUNDLE_TYPE, DATA, Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tasks.trust.authorities.certificate_identity import CertificateIdentity
    from tasks.trust.policy import Authority
    from tasks.trust.verdict import Verdict

Case = dict[str, Any]


def all_cases(*kinds: str) -> list[Case]:
    path = DATA / "cases.json"
    if not path.exists():
        return []
    return [case for case in json.loads(path.read_text()) if not kinds or case["kind"] in kinds]


@dataclass(frozen=True)
class Exactly:
    """The identity that a case names; None: any."""

    subject: str | None
    issuer: str | None

    def check(self, identity: CertificateIdentity) -> None:
        if self.subject not in (None, identity.subject) or self.issuer not in (None, identity.issuer):
            raise Refused("another identity")


@cache
def root(name: str) -> SigstoreRoot:
    kind, _, builtin = name.partition(":")
    if kind == "embedded":
        return SigstoreRoot.builtin("production" if builtin == "production" else "staging")
    return SigstoreRoot.from_json((DATA / name.partition("#")[0]).read_bytes())


def judge_case(case: Case) -> str:
    """ "accept" or "reject"; a trust root that cannot be loaded rejects all."""
    try:
        return "accept" if verdict_of(case).admits else "reject"
    except TrustBroken:
        return "reject"


def verdict_of(case: Case) -> Verdict:
    return _KINDS[case["kind"]](case)


def _bundle(case: Case) -> Verdict:
    content = (DATA / case["bundle"]).read_bytes()
    digest = Digest.of((DATA / case["artifact"]).read_bytes())
    return judge_bundle(case, content, digest)


def _oci_bundle(case: Case) -> Verdict:
    return judge_bundle(case, (DATA / case["bundle"]).read_bytes(), Digest(case["image_digest"]))


def judge_bundle(case: Case, content: bytes, digest: Digest, *, like: bytes | None = None) -> Verdict:
    """The bundle as a referrer of an image with this digest; what `like` attests is asked for."""
    repository = Repository()
    subject = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 7}
    repository.attach(subject, content, BUNDLE_TYPE, artifact_type=BUNDLE_TYPE)
    policy = Policy("case", Mode.ENFORCE, (_authority(case),), accept_predicates=_predicates(like or content))
    return judge(digest, OCI_MANIFEST, repository, policy, thorough=True)


def _authority(case: Case) -> Authority:
    if "key" in case:
        key = TrustedKey.from_pem((DATA / case["key"]).read_bytes())
        return KeyAuthority("key", key, "required", root(case["trusted_root"]))
    return KeylessAuthority(
        "keyless", root(case["trusted_root"]), Exactly(case.get("identity"), case.get("issuer"))
    )


def _predicates(content: bytes) -> frozenset[str]:
    """Most cases are attestations of files; what they attest is not the point here."""
    try:
        payload = base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"])
        return frozenset({json.loads(payload)["predicateType"]})
    except (ValueError, KeyError):
        return frozenset()


def _legacy(case: Case) -> Verdict:
    return judge_layers(case, legacy_layers(case))


def legacy_layers(case: Case) -> list[tuple[bytes, dict[str, Any]]]:
    """Payloads, and the descriptors with the annotations that sign them."""
    return [_layer(path) for path in sorted((DATA / case["dir"]).glob("signature-*"))]


def judge_layers(case: Case, layers: list[tuple[bytes, dict[str, Any]]]) -> Verdict:
    """Other layers for the image of a case."""
    digest = Digest.of((DATA / case["dir"] / "manifest.json").read_bytes())
    repository = Repository()
    repository.sign_legacy(digest, layers)
    policy = Policy("case", Mode.ENFORCE, (_legacy_authority(case),))
    return judge(digest, OCI_MANIFEST, repository, policy, thorough=True)


def _layer(path: Path) -> tuple[bytes, dict[str, Any]]:
    found = json.loads(path.read_bytes().split(b"\n", 1)[1])
    payload = base64.b64decode(found["payload"])
    descriptor = {"mediaType": found["mimeType"], "digest": Digest.of(payload), "size": len(payload)}
    return payload, descriptor | {"annotations": found["annotations"]}


def _legacy_authority(case: Case) -> Authority:
    if "ca_roots" in case:
        roots = x509.load_pem_x509_certificates((DATA / case["ca_roots"]).read_bytes())
        middle = x509.load_pem_x509_certificates((DATA / case["ca_intermediates"]).read_bytes())
        names = case["subject_email"], case["subject_hostname"]
        return CaAuthority("ca", tuple(roots), tuple(middle), *names, now=datetime(2025, 1, 1, tzinfo=UTC))
    if "key" in case:
        key = TrustedKey.from_pem((DATA / case["key"]).read_bytes())
        if "rekor_key" not in case:
            return KeyAuthority("key", key)
        log = SigstoreRoot.from_rekor_keys([(DATA / case["rekor_key"]).read_bytes()])
        return KeyAuthority("key", key, "required", log)
    return KeylessAuthority("keyless", root(case["trusted_root"]), Exactly(case["identity"], case["issuer"]))


def _notation(case: Case) -> Verdict:
    repository, image = layout(DATA / case["oci_layout"])
    return _judge_notation(case, repository, image)


def notation_envelope(case: Case) -> tuple[bytes, Callable[[bytes], Verdict]]:
    """The envelope that counts in a case, and the verdict with another one in its place, alone."""
    held, image = layout(DATA / case["oci_layout"])
    subject = parse_manifest(held.manifests[image])
    authority = _notation_authority(case, held)

    def judged(content: bytes) -> Verdict:
        repository = Repository()
        repository.manifests[image] = subject.body
        described = {"mediaType": subject.media_type, "digest": image, "size": len(subject.body)}
        repository.attach(described, content, "application/jose+json")
        policy = Policy("case", Mode.ENFORCE, (authority,))
        return judge(image, subject.media_type, repository, policy, size=len(subject.body))

    envelopes = [content for content in held.blobs.values() if b'"x5c"' in content]
    return next(content for content in envelopes if judged(content).admits), judged


def _judge_notation(case: Case, repository: Repository, image: Digest) -> Verdict:
    parsed = parse_manifest(repository.manifests[image])
    policy = Policy("case", Mode.ENFORCE, (_notation_authority(case, repository),))
    size = len(parsed.body)
    return judge(image, parsed.media_type, repository, policy, size=size, thorough=True)


def _notation_authority(case: Case, repository: Repository) -> NotationAuthority:
    return NotationAuthority(
        "notation",
        ca=tuple(each for name in case["trust_store_ca"] for each in _store(name, repository)),
        tsa=tuple(each for name in case.get("trust_store_tsa", ()) for each in _store(name, repository)),
        actions={**LEVELS["strict"], **dict.fromkeys(case.get("log", ()), "log")},
    )


def layout(folder: Path) -> tuple[Repository, Digest]:
    """An OCI layout as a repository, and the digest of its tag v1."""
    repository = Repository(api=False)
    for path in (folder / "blobs" / "sha256").iterdir():
        repository.blobs[f"sha256:{path.name}"] = path.read_bytes()
        repository.manifests[f"sha256:{path.name}"] = path.read_bytes()
    image = None
    for entry in json.loads((folder / "index.json").read_bytes())["manifests"]:
        name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name")
        if name:
            repository.manifests[name] = repository.manifests[entry["digest"]]
        image = Digest(entry["digest"]) if name == "v1" else image
        _list(repository, Digest(entry["digest"]))
    assert image is not None
    return repository, image


def _list(repository: Repository, digest: Digest) -> None:
    """One of the layouts has no fallback index: what its manifests say stands in for it."""
    manifest = parse_manifest(repository.manifests[digest])
    if manifest.subject is not None:
        repository.api = True
        repository.listed.setdefault(manifest.subject.digest, []).append(manifest.descriptor())


def _store(name: str, repository: Repository) -> list[x509.Certificate]:
    if name == "self:x5c[-1]":
        return [_own_root(content) for content in repository.blobs.values() if b'"x5c"' in content]
    content = (DATA / name).read_bytes()
    if content.startswith(b"-----BEGIN"):
        return x509.load_pem_x509_certificates(content)
    return [x509.load_der_x509_certificate(content)]


def _own_root(envelope: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(base64.b64decode(json.loads(envelope)["header"]["x5c"][-1]))


_KINDS = {
    "sigstore-bundle": _bundle,
    "oci-bundle-dsse": _oci_bundle,
    "cosign-legacy": _legacy,
    "notation": _notation,
}
