"""One repository with everything that a policy has to tell apart, on a registry of either kind."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_CONFIG, OCI_MANIFEST
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import TagRecord
from tests.support.docker_registry import running_docker_registry
from tests.support.registries import running_registry
from tests.tasks.trust.material import fixture_module, subject_of
from tests.tasks.trust.world import SLSA, SignedImage, World, signer, yesterday

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APP = RepositoryName("app")
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
STRANGER = "https://github.com/acme/app/.github/workflows/other.yml@refs/tags/v1.0.0"


class Pullable(SignedImage):
    """With a config and a layer of its own, so that it can be mirrored."""

    @property
    def layer(self) -> bytes:
        return f"the layer of {self.name}".encode()

    @property
    def body(self) -> bytes:
        config = {"mediaType": OCI_CONFIG, "digest": Digest.of(b"{}"), "size": 2}
        layer = {"mediaType": LAYER, "digest": Digest.of(self.layer), "size": len(self.layer)}
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
        return json.dumps(document).encode()


@dataclass(frozen=True)
class Case:
    """How an image is signed, and what the policy says; `why` is "" for an image that gets in."""

    tag: str
    sign: Callable[[Pullable], Any]
    why: str = ""


def _tampered(image: Pullable) -> None:
    """Another payload under the annotations of a good one."""
    image.cosign(key=image.world.key)
    payload, layer = image.layers[0]
    changed = payload.replace(b"acme/app", b"acme/apq")
    image.layers[0] = changed, layer | {"digest": Digest.of(changed), "size": len(changed)}
    image.repository.sign_legacy(image.digest, image.layers)


def _bundle(image: Pullable, leaf: Any = None, **more: Any) -> None:
    sigstore = image.world.sigstore
    image.bundle(sigstore.bundle_dsse(image.statement(**more), leaf or sigstore.leaf()))


def _attested(image: Pullable) -> None:
    _bundle(image)
    _bundle(image, ptype=SLSA)


def _of_another(image: Pullable) -> None:
    sigstore, other = image.world.sigstore, Digest.of(b"another image")
    image.cosign(key=image.world.key, claimed=other)
    image.bundle(sigstore.bundle_dsse(sigstore.statement(other), sigstore.leaf()))
    image.notary("jws", claimed=subject_of(b"another image"))


def _by_a_stranger(image: Pullable) -> None:
    """The right identity, vouched for by nobody who is trusted."""
    other = fixture_module().FakeSigstore()
    image.bundle(other.bundle_dsse(image.statement(), other.leaf()))
    image.notary("cose", signer=fixture_module().notation_chain())


def cases() -> tuple[Case, ...]:
    return (
        Case("key", lambda image: image.cosign(key=image.world.key)),
        Case("keyless", lambda image: image.cosign(leaf=image.world.sigstore.leaf())),
        Case("bundle", _bundle),
        Case("jws", lambda image: image.notary("jws")),
        Case("cose", lambda image: image.notary("cose")),
        Case("attested", _attested),
        Case("unsigned", lambda _: None, "it has no signature"),
        Case("wrong-key", lambda image: image.cosign(key=_key()), "does not count"),
        Case(
            "wrong-identity",
            lambda image: _bundle(image, image.world.sigstore.leaf(STRANGER)),
            "identity",
        ),
        Case(
            "wrong-identity-sig",
            lambda image: image.cosign(leaf=image.world.sigstore.leaf(STRANGER)),
            "identity",
        ),
        Case("stranger", _by_a_stranger, "none of 2 signatures counts"),
        Case("expired", lambda image: image.notary("jws", when=yesterday(), expiry=yesterday()), "expired"),
        Case("tampered", _tampered, "does not count"),
        Case("of-another", _of_another, "none of 3 signatures counts"),
        Case("attestation", lambda image: _bundle(image, ptype=SLSA), "is not a signature"),
    )


def _key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Upstream:
    """A registry that holds every case under its tag."""

    url: str
    images: dict[str, Pullable]
    has_api: bool

    @property
    def host(self) -> str:
        return self.url.partition("//")[2]


def fill(world: World) -> dict[str, Pullable]:
    made = {}
    for case in cases():
        image = Pullable(world, case.tag)
        case.sign(image)
        made[case.tag] = image
    return made


@contextmanager
def bundled(folder: Path, images: dict[str, Pullable]) -> Iterator[Upstream]:
    """The bundled server, which has the referrers API."""
    with running_registry(folder) as registry:
        repository = registry.store.repository(APP)
        for tag, image in images.items():
            for content in (image.layer, b"{}", *image.repository.blobs.values()):
                repository.put_blob(Descriptor("a/b", Digest.of(content), len(content)), content)
            named = {tag: image.body} | image.repository.manifests
            for name, body in named.items():
                if name != f"sha256-{image.digest.hex}":
                    made = repository.put_manifest(parse_manifest(body))
                    if ":" not in name:
                        record = TagRecord(made.digest, made.media_type, made.size, pushed=0.0)
                        repository.put_tag(Tag(name), record)
        yield Upstream(registry.url, images, has_api=True)


@contextmanager
def docker_registry(program: str, folder: Path, images: dict[str, Pullable]) -> Iterator[Upstream]:
    """Debian's docker-registry, which has no such API: what refers to an image stands under a tag."""
    with (
        running_docker_registry(program, folder, root=folder / "root") as registry,
        httpx.Client(base_url=registry.url) as client,
    ):
        for tag, image in images.items():
            for content in (image.layer, b"{}", *image.repository.blobs.values()):
                _push_blob(client, content)
            named = {tag: image.body} | image.repository.manifests
            for name, body in sorted(named.items(), key=lambda item: b'"manifests"' in item[1]):
                headers = {"Content-Type": parse_manifest(body).media_type}
                done = client.put(f"/v2/{APP}/manifests/{name}", content=body, headers=headers)
                done.raise_for_status()
        yield Upstream(registry.url, images, has_api=False)


def _push_blob(client: httpx.Client, content: bytes) -> None:
    began = client.post(f"/v2/{APP}/blobs/uploads/")
    began.raise_for_status()
    place = httpx.URL(began.headers["Location"]).copy_add_param("digest", Digest.of(content))
    done = client.put(place, content=content)
    done.raise_for_status()


def policy(world: World, host: str, **verify: Any) -> dict[str, Any]:
    """Sections of a profile that admit what one key, one identity or one certificate has signed."""
    trust = world.trust
    absolute = {
        "sigstore": {"world": {"file": str(world.folder / "root.json")}},
        "keys": {"acme": {"file": str(world.folder / "acme.pub")}},
        "notation": {"ca": {"acme": [str(world.folder / "ca.pem")]}},
    }
    assert absolute.keys() == trust.keys()
    signers = [signer("key"), signer("keyless"), signer("notation")]
    rule = {"match": [f"{host}/**"], "mode": "enforce", "signatures": {"from": signers}}
    return {"trust": absolute, "verify": {"rules": [rule], **verify}}
