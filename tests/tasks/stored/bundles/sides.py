"""Two sides of an air gap: folders that share nothing, each with a store, a profile and a key."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_CONFIG
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import Origin, TagRecord
from registry_server.store.store import Store
from tests.registry_server.store.images import image, layer, put_image
from tests.tasks.stored.audits import mirrorflow

if TYPE_CHECKING:
    import subprocess

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest

Key = ec.EllipticCurvePrivateKey
TEAM = ec.generate_private_key(ec.SECP256R1())
"""Signs images."""
_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"


def pem(key: Key) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def noise(seed: str, size: int) -> bytes:
    """What nothing compresses, the same each time."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - repeatable, and not secret


@dataclass
class Side:
    """One side; `other` is whom it trusts. `bundles` and `policy` are sections of its profile."""

    folder: Path
    key: Key = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    other: Key | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    bundles: dict[str, Any] = field(default_factory=dict)
    content: list[dict[str, Any]] = field(default_factory=lambda: [{"prefix": "**"}])
    more_entries: list[dict[str, Any]] = field(default_factory=list)
    sub_paths: dict[str, dict[str, str]] = field(default_factory=dict)
    destinations: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        made = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key_file.write_bytes(made)
        (self.folder / "side.pub").write_text(pem(self.key))

    @property
    def key_file(self) -> Path:
        return self.folder / "side.key"

    @property
    def store(self) -> Store:
        roots = {key: Path(each["rootDirectory"]) for key, each in self.sub_paths.items()}
        return Store.open(self.folder / "store", subpaths=roots, durability="none")

    @property
    def profile(self) -> Path:
        hub = {"name": "hub", "urls": ["https://hub.example"], "content": self.content}
        trust = {"keys": {"team": {"pem": pem(TEAM)}}}
        document: dict[str, Any] = {
            "storage": {"rootDirectory": "store", "subPaths": self.sub_paths},
            "destinations": self.destinations,
            "sync": {"registries": [hub, *self.more_entries]},
            "trust": trust,
            **self.policy,
        }
        if self.other is not None:
            trust["keys"]["other"] = {"pem": pem(self.other)}
            signer = {"name": "other", "type": "key", "key": "other"}
            document["bundles"] = {"from": [signer], **self.bundles}
        path = self.folder / "profile.json"
        path.write_text(json.dumps(document))
        return path

    def run(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """`mirrorflow bundle …` with the network refused."""
        command, *rest = arguments
        done = mirrorflow("bundle", command, self.profile, *rest)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    def signed(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run(*arguments, "--key", self.key_file, code=code)

    def digests(self) -> dict[str, Digest]:
        """What each visible tag names."""
        store = self.store
        return {
            f"{name}:{tag}": record.digest
            for name in store.repositories()
            for tag, record in store.repository(name).tag_records().items()
        }

    def put(self, name: str, *layers: bytes, config: bytes = b"{}", origin: str = "") -> Descriptor:
        """An image that the entry `hub` brought, from a repository of the same name."""
        repository = name.partition(":")[0]
        held = self.store.repository(RepositoryName(repository))
        made = put_image(held, *layers, config=config)
        self.tag(name, made, origin=origin)
        return made

    def tag(self, name: str, made: Descriptor, *, origin: str = "", **more: Any) -> None:
        repository, _, tag = name.partition(":")
        held = self.store.repository(RepositoryName(repository))
        came = Origin("hub", origin or repository, made.digest)
        record = TagRecord(made.digest, made.media_type, made.size, 1.5, **{"origin": came, **more})
        held.put_tag(Tag(tag), record)

    def sign(self, repository: str, signed: Descriptor, key: Key = TEAM) -> Descriptor:
        """As `cosign sign --key` writes it without the new bundle format."""
        held = self.store.repository(RepositoryName(repository))
        payload, document = _signature(signed, key)
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}, "config": {}}).encode()
        found = image(payload, config=config)
        body = json.loads(found.body)
        body["layers"][0] |= {"mediaType": _PAYLOAD, "annotations": document}
        for content in (config, payload):
            held.put_blob(layer(content, OCI_CONFIG), content)
        made = held.put_manifest(parse_manifest(json.dumps(body).encode()))
        self.tag(f"{repository}:sha256-{signed.digest.hex}.sig", made)
        return made


def _signature(signed: Descriptor, key: Key) -> tuple[bytes, dict[str, str]]:
    claim = {
        "image": {"docker-manifest-digest": signed.digest},
        "identity": {"docker-reference": ""},
        "type": "cosign container image signature",
    }
    payload = json.dumps({"critical": claim, "optional": None}).encode()
    signature = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    return payload, {"dev.cosignproject.cosign/signature": signature}


ENFORCED: dict[str, Any] = {
    "verify": {
        "rules": [
            {
                "match": ["**"],
                "signatures": {"from": [{"name": "team", "type": "key", "key": "team"}]},
            }
        ]
    }
}
"""The far side's policy in most tests: what the team has not signed stays out."""


@dataclass(frozen=True)
class Gap:
    """What is carried lies in `carried`."""

    near: Side
    far: Side
    carried: Path

    def carry(self, name: str, *create: object, receipt: str = "") -> Path:
        """Create a bundle at the near side, for the last receipt if there is one."""
        bundle = self.carried / name
        wanted = ("--for", self.carried / receipt) if receipt else ()
        self.near.signed("create", "--out", bundle, *wanted, *create)
        return bundle


def gap(folder: Path, **far: Any) -> Gap:
    near = Side(folder / "near")
    other = Side(folder / "far", other=near.key, **far)
    near.other = other.key
    (folder / "carried").mkdir()
    return Gap(near, other, folder / "carried")
