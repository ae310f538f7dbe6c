"""A verdict as an OCI artifact that refers to its image: `verify.recordVerdicts`. Pure, and without a clock.

Only what counted is in it, with the times that a log or a timestamp authority vouches for: judging the same
image by the same policy again gives the same bytes, and so the same digest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_EMPTY, OCI_MANIFEST

if TYPE_CHECKING:
    from registry_server.oci.manifest import Manifest
    from tasks.trust.verdict import Verdict

ARTIFACT_TYPE: Final = "application/vnd.mirrorflow.verdict.v1+json"
OWN_TYPE: Final = f"has the type {ARTIFACT_TYPE}, which only this mirror itself may write"
EMPTY: Final = b"{}"
CONFIG: Final = Descriptor(OCI_EMPTY, Digest.of(EMPTY), len(EMPTY))


def signed_by(verdict: Verdict) -> tuple[dict[str, Any], ...]:
    """Who signed, when, and which authorities of the policy that matched; a signature each."""
    return tuple(
        {
            "authorities": list(found.authorities),
            "who": found.who,
            "issuer": found.issuer,
            "when": found.when.isoformat() if found.when else None,
            "format": found.format,
            "predicateType": found.predicate_type,
            "logIndex": found.log_index,
        }
        for found in verdict.signatures
        if found.counted
    )


def record_of(verdict: Verdict, digest: Digest, source: str) -> bytes:
    """The content of the artifact; `digest` is the upstream's, `source` is `host/repository` there."""
    return _encoded(
        {
            "version": 1,
            "outcome": str(verdict.outcome),
            "policy": verdict.policy,
            "subject": str(digest),
            "source": source,
            "reasons": list(verdict.reasons),
            "signatures": sorted(signed_by(verdict), key=lambda each: json.dumps(each, sort_keys=True)),
        }
    )


def layer_of(content: bytes) -> Descriptor:
    return Descriptor(ARTIFACT_TYPE, Digest.of(content), len(content))


def manifest_of(content: bytes, subject: Descriptor) -> bytes:
    """image-spec manifest.md, "Guidelines for Artifact Usage": an empty config, one layer, a subject."""
    document = json.loads(content)
    return _encoded(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": CONFIG.to_json(),
            "layers": [layer_of(content).to_json()],
            "subject": Descriptor(subject.media_type, subject.digest, subject.size).to_json(),
            "annotations": {
                "io.mirrorflow.verdict.outcome": document["outcome"],
                "io.mirrorflow.verdict.policy": document["policy"],
            },
        }
    )


def is_own(manifest: Manifest) -> bool:
    """Whether it claims to be a record that only this mirror writes."""
    blobs = (*manifest.layers, *((manifest.config,) if manifest.config else ()))
    return ARTIFACT_TYPE in {manifest.artifact_type, *(blob.media_type for blob in blobs)}


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
