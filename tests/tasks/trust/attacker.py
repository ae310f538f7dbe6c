"""An upstream with one signed image, and an attacker who may push to it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_CONFIG, OCI_MANIFEST
from tests.tasks.companies import Holder, WithoutApi, holders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor

OURS = ec.generate_private_key(ec.SECP256R1())
TAR = "application/vnd.oci.image.layer.v1.tar"
DSSE = "application/vnd.dsse.envelope.v1+json"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION = "application/vnd.cncf.notary.signature"
SPDX = "application/spdx+json"


def tar_of(script: bytes) -> bytes:
    """What a runtime unpacks: a program."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("bin/run")
        entry.size, entry.mode = len(script), 0o755
        archive.addfile(entry, io.BytesIO(script))
    return buffer.getvalue()


ROOTFS = tar_of(b"#!/bin/sh\necho attacked\n")
ZIPPED = gzip.compress(ROOTFS, mtime=0)


def config_of(*layers: bytes, **more: Any) -> bytes:
    """As cosign's older signatures have it: with `diff_ids`, and nothing to run."""
    diff_ids = [Digest.of(layer) for layer in layers]
    platform = {"architecture": "amd64", "os": "linux"}
    return json.dumps(
        platform | {"rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {}} | more
    ).encode()


def entry(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(content), "size": len(content)} | more


def manifest_of(
    config_type: str, config: bytes, *layers: tuple[str, bytes], **more: Any
) -> tuple[bytes, list[bytes]]:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": entry(config_type, config),
        "layers": [entry(media_type, content) for media_type, content in layers],
    }
    return json.dumps(document | more).encode(), [config, *(content for _, content in layers)]


@dataclass
class Attack:
    """An upstream with one signed image, and what an attacker pushed beside it.

    `wanted`: the digests that must not be had from the mirror; `tags`: the tags neither. `documents`: digests
    that may be had as the text of a companion, but not as a manifest.
    """

    upstream: Holder
    signed: Descriptor
    wanted: set[Digest] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    documents: set[Digest] = field(default_factory=set)

    def push(self, made: tuple[bytes, list[bytes]], tag: str = "") -> Descriptor:
        body, blobs = made
        pushed = self.upstream.keep(body, blobs, tag)
        self.wanted.add(pushed.digest)
        if tag:
            self.tags.add(tag)
            if isinstance(self.upstream, WithoutApi):  # that server finds a manifest by what it was pushed as
                self.upstream.keep(body, [])
        return pushed

    def image(self, *, payload: bytes = ZIPPED) -> tuple[Descriptor, bytes]:
        """An unsigned image of this repository, with its manifest's body."""
        made = manifest_of(OCI_CONFIG, config_of(ROOTFS), (f"{TAR}+gzip", payload))
        self.wanted |= {Digest.of(payload)}
        return self.push(made), made[0]

    def attach(self, made: tuple[bytes, list[bytes]], subject: Descriptor | None = None) -> Descriptor:
        body = json.loads(made[0]) | {"subject": plain(subject or self.signed)}
        return self.push((json.dumps(body).encode(), made[1]))

    @property
    def stem(self) -> str:
        return f"sha256-{self.signed.digest.hex}"


def plain(found: Descriptor) -> dict[str, Any]:
    return {"mediaType": found.media_type, "digest": found.digest, "size": found.size}


def sign(upstream: Holder, image: Descriptor) -> None:
    """As `cosign sign --key` writes it without the new bundle format, config included."""
    claim = {"image": {"docker-manifest-digest": image.digest}, "type": "cosign container image signature"}
    payload = json.dumps(
        {"critical": claim | {"identity": {"docker-reference": ""}}, "optional": None}
    ).encode()
    signature = base64.b64encode(OURS.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    config = json.dumps(
        {"architecture": "", "os": "", "rootfs": {"diff_ids": [Digest.of(payload)]}, "config": {}}
    )
    body, blobs = manifest_of(OCI_CONFIG, config.encode(), (PAYLOAD, payload))
    signed = json.loads(body)
    signed["layers"][0]["annotations"] = {"dev.cosignproject.cosign/signature": signature}
    upstream.keep(json.dumps(signed).encode(), blobs, f"sha256-{image.digest.hex}.sig")


@contextmanager
def attacked(folder: Path, *, api: bool) -> Iterator[Attack]:
    """Nothing is pushed yet but the signed image `v1`."""
    with holders(folder / "upstream", api=api) as upstream:
        layer = gzip.compress(tar_of(b"ours"), mtime=0)
        body, blobs = manifest_of(OCI_CONFIG, config_of(tar_of(b"ours")), (f"{TAR}+gzip", layer))
        signed = upstream.keep(body, blobs, "v1")
        if isinstance(upstream, WithoutApi):
            upstream.keep(body, [])
        sign(upstream, signed)
        yield Attack(upstream, signed)


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def policy(key: ec.EllipticCurvePrivateKey = OURS, **rule: Any) -> dict[str, Any]:
    """Sections of a profile that admit what `key` has signed."""
    signer = {"name": "ours", "type": "key", "key": "ours"}
    made = {"match": ["**"], "signatures": {"from": [signer]}, **rule}
    return {"trust": {"keys": {"ours": {"pem": pem_of(key)}}}, "verify": {"rules": [made]}}
