"""`audit` as a user types it, on a store that was filled once, and a network that refuses."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from registry_server.oci.media_types import OCI_CONFIG, OCI_INDEX
from registry_server.oci.reference import Tag
from registry_server.store.store import Store
from tests.tasks.companies import APP
from tests.tasks.runs import mirror, opened
from tests.tasks.trust.attacker import (
    TAR,
    attacked,
    config_of,
    manifest_of,
    sign,
)

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from tests.tasks.trust.attacker import Attack

# Nobody is asked, and Prefect is not even loaded: both are seen from inside of the process.
COMMAND = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise AssertionError(f"{event} {arguments}")

sys.addaudithook(refuse)
from flows.cli import main
try:
    main()
finally:
    assert not [name for name in sys.modules if name.partition(".")[0] == "prefect"], "prefect was loaded"
"""
PASSWORD = "correct horse"
FALLEN = ec.generate_private_key(ec.SECP256R1())


def mirrorflow(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env={**os.environ, "COLUMNS": "250", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def image_of(name: bytes) -> tuple[bytes, list[bytes]]:
    return manifest_of(OCI_CONFIG, config_of(name), (f"{TAR}+gzip", name))


def push_index(attack: Attack) -> tuple[Descriptor, Descriptor]:
    """`index`, signed, with a child that is signed and one that is not."""
    children = [attack.upstream.keep(*image_of(name)) for name in (b"one", b"two")]
    entries = [{"mediaType": each.media_type, "digest": each.digest, "size": each.size} for each in children]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    index = attack.upstream.keep(json.dumps(document).encode(), [], "index")
    for each in (index, children[0]):
        sign(attack.upstream, each)
    return index, children[1]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store without policy: `v1`, `v3` and `index` are signed, `v2` is not. The upstream is gone."""
    folder = tmp_path_factory.mktemp("filled")
    with attacked(folder, api=True) as attack:
        attack.push(image_of(b"v2"), "v2")
        sign(attack.upstream, attack.push(image_of(b"v3"), "v3"))
        push_index(attack)
        with opened(folder, attack.upstream.url) as run:
            mirror(run)
        return folder, attack.upstream.url


@dataclass(frozen=True)
class Mirror:
    """A store, and profiles over it."""

    folder: Path
    url: str

    @property
    def store(self) -> Store:
        return Store.open(self.folder / "store")

    def profile(self, *, entry: dict[str, Any] | None = None, **more: Any) -> Path:
        registry = {"name": "registry1", "urls": [self.url], "content": [{"prefix": "**"}], **(entry or {})}
        document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [registry]}, **more}
        path = self.folder / "profile.json"
        path.write_text(json.dumps(document))
        return path

    def digest(self, tag: str) -> Digest:
        record = self.store.repository(APP).tag(Tag(tag))
        assert record is not None
        return record.digest

    def audit(self, code: int, **more: Any) -> dict[str, dict[str, Any]]:
        """What `--json` says of each image, by its name."""
        done = mirrorflow("audit", self.profile(**more), "--json")
        assert done.returncode == code, done.stderr
        document = json.loads(done.stdout)
        counted = {name: each for name, each in document["summary"].items() if name != "notJudged"}
        assert sum(counted.values()) == len(document["images"])
        return {each["image"]: each for each in document["images"]}


@pytest.fixture
def mirrored(tmp_path: Path, filled: tuple[Path, str]) -> Mirror:
    """A store of one's own that may be changed."""
    folder, url = filled
    shutil.copytree(folder / "store", tmp_path / "store")
    return Mirror(tmp_path, url)


def results(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name.partition(":")[2]: each["result"] for name, each in found.items()}


KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


def key_file(folder: Path, key: Any, password: str = "") -> Path:
    path = folder / "audit.key"
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return path


def statement_of(mirrored: Mirror, more: dict[str, Any]) -> dict[str, Any]:
    key = key_file(mirrored.folder, KEYS["P-256"]())
    bundle = mirrored.folder / "result.json"
    done = mirrorflow("audit", mirrored.profile(**more), "--attest", key, "--output", bundle)
    assert "the signed statement is in" in done.stderr, done.stderr
    envelope = json.loads(bundle.read_bytes())["dsseEnvelope"]
    found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return found
