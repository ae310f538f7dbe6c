"""Signed material for the tests: what upstream projects signed, and worlds that we sign ourselves.

Both live outside of the repository (`../shared/testdata/signatures`); tests without it are skipped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from registry_server.oci.descriptor import Descriptor

DATA = Path(__file__).parents[4] / "shared" / "testdata" / "signatures"
ABSENT = f"the signed material of the upstream projects is not beside the checkout ({DATA.name})"
needs_material = pytest.mark.skipif(not (DATA / "cases.json").exists(), reason=ABSENT)


def fixture_module() -> Any:
    """sig_fixture.py: a Sigstore and a Notary Project of one's own, offline."""
    if "sig_fixture" not in sys.modules:
        path = DATA / "sig_fixture.py"
        if not path.exists():
            pytest.skip(ABSENT)
        spec = importlib.util.spec_from_file_location("sig_fixture", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["sig_fixture"] = module
        spec.loader.exec_module(module)
    return sys.modules["sig_fixture"]


class NetworkDown(Exception):
    """What a source may raise."""


@dataclass
class Repository:
    """A `SignatureSource` in memory. `api`: whether it has the referrers API."""

    api: bool = True
    down: Collection[str] = ()  # calls that fail
    manifests: dict[str, bytes] = field(default_factory=dict)  # by tag and digest
    blobs: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, list[Descriptor]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    knows_tags: bool = False

    def referrers(self, digest: Digest) -> Sequence[Descriptor] | None:
        self._call("referrers")
        return self.listed.get(digest, []) if self.api else None

    def manifest(self, reference: str) -> bytes | None:
        self._call(f"manifest {reference}")
        return self.manifests.get(reference)

    def blob(self, descriptor: Descriptor) -> bytes | None:
        self._call("blob")
        return self.blobs.get(descriptor.digest)

    def tags(self) -> Collection[str] | None:
        self._call("tags")
        return {name for name in self.manifests if ":" not in name} if self.knows_tags else None

    def _call(self, what: str) -> None:
        self.asked.append(what)
        if what.partition(" ")[0] in self.down:
            raise NetworkDown(what)

    def put(self, manifest: Mapping[str, Any], blobs: Sequence[bytes] = (), tag: str | None = None) -> Digest:
        """Store a manifest and its blobs; a subject makes it a referrer."""
        body = json.dumps(manifest).encode()
        digest = Digest.of(body)
        self.manifests[digest] = body
        if tag is not None:
            self.manifests[tag] = body
        for blob in (*blobs, b"{}"):
            self.blobs[f"sha256:{hashlib.sha256(blob).hexdigest()}"] = blob
        parsed = parse_manifest(body)
        if parsed.subject is not None:
            self._refer(parsed.subject.digest, parsed.descriptor())
        return digest

    def _refer(self, subject: Digest, descriptor: Descriptor) -> None:
        self.listed.setdefault(subject, []).append(descriptor)
        # As cosign <= 3.0 writes it: the wrong artifact type, and no annotations.
        entries = [
            {
                "mediaType": each.media_type,
                "digest": each.digest,
                "size": each.size,
                "artifactType": OCI_EMPTY,
            }
            for each in self.listed[subject]
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        self.manifests[f"sha256-{subject.hex}"] = json.dumps(index).encode()

    def sign_legacy(
        self, image: Digest, layers: Sequence[tuple[bytes, Mapping[str, Any]]], kind: str = "sig"
    ) -> None:
        """cosign's tag with one layer for each signature."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _empty("application/vnd.oci.image.config.v1+json"),
            "layers": [dict(layer) for _, layer in layers],
        }
        self.put(manifest, [payload for payload, _ in layers], f"{image.replace(':', '-')}.{kind}")

    def attach(
        self,
        subject: Mapping[str, Any],
        content: bytes,
        media_type: str,
        *,
        artifact_type: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Digest:
        """A referrer with one layer."""
        layer = {"mediaType": media_type, "digest": Digest.of(content), "size": len(content)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _empty(OCI_EMPTY if artifact_type else "application/vnd.cncf.notary.signature"),
            "layers": [layer | ({"annotations": dict(annotations)} if annotations else {})],
            "subject": dict(subject),
        }
        if artifact_type:
            manifest["artifactType"] = artifact_type
        return self.put(manifest, [content])


def _empty(media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(b"{}"), "size": 2}


BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def subject_of(body: bytes, media_type: str = OCI_MANIFEST) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(body), "size": len(body)}
