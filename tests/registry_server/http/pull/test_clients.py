"""What real programs make of the server: skopeo pulls from it, docker-registry answers beside it."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.demo.sample_images import AMD64, ARM64, layer
from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_MANIFEST
from tests.support.registries import put_blob, running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from tests.support.registries import Registry

BASE, TOP = layer("base", 300_000), layer("top", 5_000)


@pytest.fixture(scope="module")
def images(registry: Registry) -> dict[str, Descriptor]:
    """One image of each kind that skopeo knows, tagged with the kind."""
    maker = registry.maker("library/kinds")
    platforms = {AMD64: [BASE, TOP], ARM64: [BASE]}
    made = {
        "oci": maker.image([BASE, TOP]),
        "docker": maker.image([BASE, TOP], docker=True),
        "index": maker.multi_platform(platforms, attested=True),
        "list": maker.multi_platform(platforms, docker=True),
    }
    for tag, descriptor in made.items():
        maker.tag(descriptor, tag)
    return made


def _skopeo(skopeo: str, *arguments: str) -> bytes:
    return subprocess.run([skopeo, *arguments], check=True, capture_output=True, timeout=120).stdout


@pytest.mark.parametrize("kind", ["oci", "docker", "index", "list"])
def test_skopeo_copies_whole_images(
    registry: Registry, images: dict[str, Descriptor], skopeo: str, tmp_path: Path, kind: str
) -> None:
    source = f"docker://{registry.host}/library/kinds:{kind}"
    _skopeo(
        skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", source, f"dir:{tmp_path}"
    )
    assert Digest.of((tmp_path / "manifest.json").read_bytes()) == images[kind].digest
    assert Digest.of((tmp_path / Digest.of(BASE.content).hex).read_bytes()) == Digest.of(BASE.content)


def test_skopeo_reads_manifests_and_tags(
    registry: Registry, images: dict[str, Descriptor], skopeo: str
) -> None:
    source = f"docker://{registry.host}/library/kinds"
    raw = _skopeo(skopeo, "inspect", "--raw", "--tls-verify=false", f"{source}:index")
    assert Digest.of(raw) == images["index"].digest
    listed = json.loads(_skopeo(skopeo, "list-tags", "--tls-verify=false", source))
    assert listed["Tags"] == sorted(images)


@contextmanager
def _peer(program: str, folder: Path) -> Iterator[httpx.Client]:
    """Debian's docker-registry, empty, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "peer")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    child = subprocess.Popen([program, "serve", str(folder / "config.yml")], stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=_patient(), timeout=30) as client:
            yield client
    finally:
        child.terminate()
        child.wait()


def _patient() -> httpx.HTTPTransport:
    return httpx.HTTPTransport(retries=10)  # connects again, with growing pauses, until it listens


@pytest.fixture(scope="module")
def peer(
    docker_registry: str, skopeo: str, registry: Registry, images: dict[str, Descriptor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:  # fmt: skip
    """docker-registry with the same images, copied out of our server."""
    with _peer(docker_registry, tmp_path_factory.mktemp("peer")) as client:
        assert client.get("/v2/").status_code == 200
        for tag in images:
            source = f"docker://{registry.host}/library/kinds:{tag}"
            target = f"docker://{client.base_url.host}:{client.base_url.port}/library/kinds:{tag}"
            insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
            _skopeo(skopeo, "copy", "--all", "--preserve-digests", *insecure, source, target)
        yield client


BLOB = f"/v2/library/kinds/blobs/{Digest.of(BASE.content)}"
NONE = Digest.of(b"nowhere")


DOCKER = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
IDENTITY = {"Content-Type", "Content-Length", "Content-Range", "Docker-Content-Digest", "ETag"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/v2/library/kinds/manifests/oci", {"Accept": OCI_MANIFEST}, id="oci"),
        pytest.param("/v2/library/kinds/manifests/docker", DOCKER, id="docker"),
        pytest.param(BLOB, {}, id="blob"),
        pytest.param(BLOB, {"Range": "bytes=100-199"}, id="range"),
        pytest.param(BLOB, {"Range": "bytes=-7"}, id="suffix"),
    ],
)
def test_content_comes_with_the_headers_of_docker_registry(
    registry: Registry, peer: httpx.Client, method: str, path: str, headers: dict[str, str]
) -> None:
    if method == "HEAD":  # RFC 9110, 14.2: Range is for GET only; docker-registry answers 206 all the same
        headers = {name: value for name, value in headers.items() if name != "Range"}
    ours, theirs = (each.request(method, path, headers=headers) for each in (registry.client, peer))
    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
    for name in IDENTITY:
        assert ours.headers.get(name) == theirs.headers.get(name), name


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/v2/library/kinds/manifests/none", id="tag"),
        pytest.param(f"/v2/library/kinds/manifests/{NONE}", id="manifest"),
        pytest.param(f"/v2/library/kinds/blobs/{NONE}", id="blob"),
        pytest.param("/v2/library/none/tags/list", id="repository"),
        pytest.param("/v2/library/kinds/tags/list", id="tags"),
        pytest.param("/v2/_catalog?n=1", id="catalog"),
        pytest.param("/v2/", id="base"),
    ],
)
def test_documents_say_what_those_of_docker_registry_say(
    registry: Registry, peer: httpx.Client, path: str
) -> None:
    ours, theirs = registry.client.get(path), peer.get(path)
    assert ours.status_code == theirs.status_code
    assert _comparable(ours.json()) == _comparable(theirs.json())


def _comparable(body: dict[str, Any]) -> dict[str, Any]:
    """Without the words of error messages, and without the order, which docker-registry has not."""
    if "errors" in body:
        return {"errors": [error["code"] for error in body["errors"]]}
    return {key: sorted(value) if isinstance(value, list) else value for key, value in body.items()}


def test_skopeo_pulls_from_a_server_with_several_workers(skopeo: str, tmp_path: Path) -> None:
    with running_registry(tmp_path, workers=2) as registry:
        maker = registry.maker("library/many")
        maker.tag(maker.image([BASE, TOP]), "latest")
        put_blob(registry.store, "library/many", b"unrelated")
        source = f"docker://{registry.host}/library/many:latest"
        _skopeo(skopeo, "copy", "--src-tls-verify=false", source, f"dir:{tmp_path / 'copy'}")
        counts = registry.requests.counts()
    assert counts["GET manifest"] == 1
    assert counts["GET blob"] == 3
