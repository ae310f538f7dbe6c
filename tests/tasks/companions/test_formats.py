"""What may follow an image under a strict policy: what real tools write, and what attackers do."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.manifest import Manifest, parse_manifest
from registry_server.oci.media_types import (
    DOCKER_CONFIG,
    OCI_ARTIFACT_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
)
from tasks.companions.formats import LARGEST, why_not_allowed
from tasks.manifests.verdict_record import ARTIFACT_TYPE, is_own

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION = "application/vnd.cncf.notary.signature"
# As cosign 3.1 writes it beside a `.sig`, with the digest of its payload.
COSIGN_CONFIG = (
    b'{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],'
    b'"os":"","rootfs":{"type":"layers","diff_ids":["sha256:22b229d8e926605771a1ba4bfaab482d75dda716ec25c3d39'
    b'9d1c8fc68542f5c"]},"config":{}}'
)


def made(
    config_type: str,
    *layers: tuple[str, bytes],
    config: bytes = b"{}",
    media_type: str = OCI_MANIFEST,
    **more: Any,
) -> tuple[Manifest, dict[Digest, bytes]]:
    """A manifest and its blobs."""
    blobs = {Digest.of(content): content for content in (config, *(content for _, content in layers))}

    def described(kind: str, content: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "digest": Digest.of(content), "size": len(content)}

    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    if media_type == OCI_ARTIFACT_MANIFEST:
        document["blobs"] = [described(*layer) for layer in layers]
    else:
        document |= {
            "config": described(config_type, config),
            "layers": [described(*layer) for layer in layers],
        }
    return parse_manifest(json.dumps(document | more).encode()), blobs


def reason(found: tuple[Manifest, dict[Digest, bytes]]) -> str:
    manifest, blobs = found
    return why_not_allowed(manifest, lambda descriptor: blobs[descriptor.digest])


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(made(OCI_CONFIG, (PAYLOAD, b"{}"), config=COSIGN_CONFIG), id="cosign .sig"),
        pytest.param(
            made(DOCKER_CONFIG, (PAYLOAD, b"{}"), config=COSIGN_CONFIG), id="cosign .sig, Docker types"
        ),
        pytest.param(
            made("application/vnd.dev.cosign.artifact.sig.v1+json", (PAYLOAD, b"{}"), config=COSIGN_CONFIG),
            id="cosign signature as a referrer",
        ),
        pytest.param(
            made(OCI_CONFIG, (DSSE, b"{}"), (DSSE, b'{"a":1}'), config=COSIGN_CONFIG), id="cosign .att"
        ),
        pytest.param(
            made(OCI_CONFIG, ("application/vnd.cyclonedx+xml", b"<bom/>"), config=COSIGN_CONFIG),
            id="cosign .sbom",
        ),
        pytest.param(
            made(OCI_CONFIG, ("text/spdx", b"##\nSPDXVersion: SPDX-2.3\n"), config=COSIGN_CONFIG),
            id="cosign .sbom, SPDX tag-value",
        ),
        pytest.param(made(OCI_EMPTY, (BUNDLE, b"{}"), artifactType=BUNDLE), id="Sigstore bundle"),
        pytest.param(made(NOTATION, ("application/jose+json", b"{}")), id="notation, JWS, old"),
        pytest.param(
            made(OCI_EMPTY, ("application/cose", b"\xd2\x84\x00"), artifactType=NOTATION), id="notation, COSE"
        ),
        pytest.param(
            made(
                "", ("application/jose+json", b"{}"), media_type=OCI_ARTIFACT_MANIFEST, artifactType=NOTATION
            ),
            id="notation in an artifact manifest",
        ),
        pytest.param(
            made(OCI_EMPTY, ("application/json", b"\xef\xbb\xbf{}"), artifactType="application/spdx+json"),
            id="SBOM by oras attach",
        ),
        pytest.param(
            made(OCI_EMPTY, ("application/sarif+json", b"{}"), artifactType="application/sarif+json"),
            id="scan",
        ),
        pytest.param(made(OCI_EMPTY, artifactType=BUNDLE), id="nothing in it"),
    ],
)
def test_what_tools_attach_may_follow(found: tuple[Manifest, dict[Digest, bytes]]) -> None:
    assert reason(found) == ""


TAR_LIKE = b"bin/run" + bytes(505)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        pytest.param(
            made(OCI_CONFIG, ("application/vnd.oci.image.layer.v1.tar+gzip", b"")),
            "artifact type none",
            id="image",
        ),
        pytest.param(
            made(OCI_EMPTY, ("application/vnd.oci.image.layer.v1.tar", b""), artifactType=BUNDLE),
            "layer.v1.tar",
            id="a tar layer in a bundle",
        ),
        pytest.param(
            made(OCI_CONFIG, ("application/vnd.oci.image.layer.v1.tar+dsse+gzip", b"")),
            "tar+dsse+gzip",
            id="extends a tar layer",
        ),
        pytest.param(made(OCI_CONFIG, (f"{PAYLOAD}+gzip", b"")), "+gzip", id="extends a signature"),
        pytest.param(
            made(OCI_CONFIG, (BUNDLE, b"{}"), artifactType=BUNDLE),
            "config",
            id="a bundle with an image config",
        ),
        pytest.param(
            made(OCI_EMPTY, (BUNDLE, b"{}"), artifactType="application/x"), "application/x", id="unknown type"
        ),
        pytest.param(made(OCI_CONFIG, (PAYLOAD, TAR_LIKE)), "not text", id="an archive"),
        pytest.param(
            made(OCI_CONFIG, (DSSE, gzip.compress(TAR_LIKE))), "not text", id="a compressed archive"
        ),
        pytest.param(made(OCI_CONFIG, (DSSE, b"#!/bin/sh")), "neither JSON nor XML", id="a script"),
        pytest.param(
            made(OCI_CONFIG, ("text/spdx", b"#!/bin/sh")), "no SPDX document", id="a script as SPDX"
        ),
        pytest.param(
            made(NOTATION, ("application/cose", TAR_LIKE)), "no COSE_Sign1", id="an archive as COSE"
        ),
        pytest.param(
            made(OCI_CONFIG, (PAYLOAD, b"{}"), config=b'{"config":{"Cmd":["/bin/run"]}}'),
            "says what to run",
            id="a command",
        ),
        pytest.param(
            made(OCI_CONFIG, (PAYLOAD, b"{}"), config=b"\x00"), "not a JSON object", id="a broken config"
        ),
        pytest.param(
            (
                parse_manifest(
                    json.dumps(
                        {"schemaVersion": 2, "mediaType": OCI_INDEX, "artifactType": BUNDLE, "manifests": []}
                    ).encode()
                ),
                {},
            ),
            "it is an index",
            id="an index",
        ),
        pytest.param(
            made(
                OCI_EMPTY,
                artifactType=BUNDLE,
                layers=[{"mediaType": BUNDLE, "digest": Digest.of(b""), "size": LARGEST + 1}],
            ),
            "at most 33,554,432",
            id="too large to look at",
        ),
        pytest.param(
            made(
                OCI_CONFIG,
                layers=[
                    {
                        "mediaType": PAYLOAD,
                        "digest": Digest.of(b"{}"),
                        "size": 2,
                        "urls": ["https://x.example/"],
                    }
                ],
            ),
            "on other servers",
            id="a layer elsewhere",
        ),
    ],
)
def test_what_could_be_run_and_what_is_not_known_stays_out(
    found: tuple[Manifest, dict[Digest, bytes]], why: str
) -> None:
    assert why in reason(found)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(made(OCI_EMPTY, artifactType=ARTIFACT_TYPE), id="artifact type"),
        pytest.param(made(ARTIFACT_TYPE), id="config"),
        pytest.param(made(OCI_EMPTY, (ARTIFACT_TYPE, b"{}"), artifactType=BUNDLE), id="layer"),
    ],
)
def test_a_record_of_ours_is_known_wherever_its_type_stands(
    found: tuple[Manifest, dict[Digest, bytes]],
) -> None:
    assert is_own(found[0])
