"""What verifying signatures costs: a first mirror of signed images with a policy and without, and one image.

The signatures are cosign's, by a key. `cosign verify` is the peer, a process for each image as in a script.
"""

from __future__ import annotations

import base64
import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.harness.ours import MIRRORFLOW, environment, sync_by_command
from benchmarks.harness.processes import Usage, run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import image, put
from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import TagRecord
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from benchmarks.harness.place import Place

UPSTREAM = "our own server"
_NAME: Final = "signed/images"
_PAYLOAD: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE: Final = "dev.cosignproject.cosign/signature"
_COSIGN: Final = "cosign verify"
_PLAIN: Final = "without a policy"


@dataclass(frozen=True, slots=True)
class Size:
    images: int
    rounds: int
    within: float = math.inf  # seconds, for all rounds of each question


FULL = Size(images=200, rounds=3, within=60)
SMALL = Size(images=3, rounds=1)


@dataclass(frozen=True, slots=True)
class Result:
    """What the whole processes took: `mirrors` enforced and plain, `ones` a verification of one image."""

    size: Size
    mirrors: Mapping[str, list[Usage]]
    ones: Mapping[str, list[Usage]]

    def rows(self) -> list[Row]:
        what = f"first mirror of {self.size.images} signed images"
        one, ours, plain = self.ones, self.mirrors["ours"], self.mirrors[_PLAIN]
        peers = {_COSIGN: _walls(one[_COSIGN]) if _COSIGN in one else None}
        near = AtLeast(0.5, "<= 2 x the time")
        return [
            Row("verification", what, "s", _walls(ours), {_PLAIN: _walls(plain)}, budget=near),
            Row("verification", f"{what}, CPU", "s", _cpus(ours), {_PLAIN: _cpus(plain)}),
            Row("verification", "mirrorflow verify, one image", "s", _walls(one["ours"]), peers),
        ]


def _walls(usages: list[Usage]) -> Sample:
    return Sample.of(each.wall for each in usages)


def _cpus(usages: list[Usage]) -> Sample:
    return Sample.of(each.cpu for each in usages)


def measure(place: Place, size: Size) -> Result:
    folder = place.fresh("verification")
    store = Store.open(folder / "upstream", durability="none")
    key = ec.generate_private_key(ec.SECP256R1())
    public = folder / "key.pub"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for number in range(size.images):
        layer = put(store, _NAME, f"layer-{number}", 2000)
        _sign(store, image(store, _NAME, str(number), [layer], f"v{number}"), key)
    with bundled(store.root) as upstream:
        turns = _Turns(place, upstream.url, public.read_text())
        mirrors = {"ours": turns.enforced, _PLAIN: turns.plain}
        found = alternately(size.rounds, mirrors, within=size.within)
        profile, host = turns.profile(folder), upstream.host
        ones: dict[str, Callable[[], Usage]] = {"ours": partial(_verify, profile, host)}
        for program in place.optional("cosign").values():
            ones[_COSIGN] = partial(_cosign, program, public, host)
        one = alternately(size.rounds, ones, within=size.within)
    shutil.rmtree(folder)
    return Result(size, found, one)


def _sign(store: Store, subject: Descriptor, key: ec.EllipticCurvePrivateKey) -> None:
    """As `cosign sign --key` does: a manifest tagged `sha256-<hex>.sig`, whose layer is the payload."""
    target = store.repository(RepositoryName(_NAME))
    payload = _bytes(
        {
            "critical": {
                "identity": {"docker-reference": _NAME},
                "image": {"docker-manifest-digest": subject.digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    signature = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    parts = [Descriptor(media_types.OCI_CONFIG, Digest.of(b"{}"), 2)]
    parts.append(Descriptor(_PAYLOAD, Digest.of(payload), len(payload)))
    for part, content in zip(parts, (b"{}", payload), strict=True):
        target.put_blob(part, content)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": parts[0].to_json(),
        "layers": [{**parts[1].to_json(), "annotations": {_SIGNATURE: signature}}],
    }
    made = target.put_manifest(parse_manifest(_bytes(document), media_types.OCI_MANIFEST))
    name = Tag(f"{subject.digest.replace(':', '-')}.sig")
    target.put_tag(name, TagRecord(made.digest, made.media_type, made.size, 0.0))


def _bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


@dataclass(frozen=True, slots=True)
class _Turns:
    place: Place
    url: str
    key: str

    def enforced(self) -> Usage:
        return self._mirrored(self.profile(self.place.fresh("enforced")))

    def plain(self) -> Usage:
        """The signatures are fetched all the same: they follow their images."""
        folder = self.place.fresh("plain")
        return self._mirrored(write_profile(folder, self.url, folder / "mirror", content=self._content))

    def profile(self, folder: Path) -> Path:
        policy = {"from": [{"name": "us", "type": "key", "key": "ours"}]}
        more = {
            "trust": {"keys": {"ours": {"pem": self.key}}},
            "verify": {"rules": [{"match": ["**"], "mode": "enforce", "signatures": policy}]},
        }
        return write_profile(folder, self.url, folder / "mirror", more=more, content=self._content)

    @property
    def _content(self) -> list[dict[str, Any]]:
        return [{"prefix": _NAME, "tags": {"regex": "v[0-9]+$"}}]

    def _mirrored(self, profile: Path) -> Usage:
        usage = sync_by_command(profile)
        shutil.rmtree(profile.parent)
        return usage


def _verify(profile: Path, host: str) -> Usage:
    command = [*MIRRORFLOW, "verify", str(profile), f"{host}/{_NAME}:v0"]
    return run(command, environment=environment()).usage


def _cosign(program: str, key: Path, host: str) -> Usage:
    options = ["--key", str(key), "--insecure-ignore-tlog", "--allow-http-registry", "--output", "json"]
    return run([program, "verify", *options, f"{host}/{_NAME}:v0"]).usage
