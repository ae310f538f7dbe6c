"""Clients that nobody here wrote push and pull: skopeo, buildah, podman, containerd, oras."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flows.demo.sample_images import AMD64, ARM64, layer
from registry_server.oci.digest import Digest
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registries import Registry

BASE, TOP = layer("base", 300_000), layer("top", 5_000)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One that can be written to."""
    with running_registry(tmp_path_factory.mktemp("registry"), writable=True) as found:
        yield found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A read-only one, with an image of each kind."""
    with running_registry(tmp_path_factory.mktemp("source")) as found:
        maker = found.maker("library/kinds")
        platforms = {AMD64: [BASE, TOP], ARM64: [BASE]}
        maker.tag(maker.image([BASE, TOP]), "oci")
        maker.tag(maker.image([BASE, TOP], docker=True), "docker")
        maker.tag(maker.multi_platform(platforms, attested=True), "index")
        maker.tag(maker.multi_platform(platforms, docker=True), "list")
        yield found


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _optional(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed; Debian has it as a package")
    return path


class TestSkopeo:
    @pytest.mark.parametrize("kind", ["oci", "docker", "index", "list"])
    def test_copies_in_and_out(
        self, registry: Registry, source: Registry, skopeo: str, tmp_path: Path, kind: str
    ) -> None:
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        pushed = f"docker://{registry.host}/pushed/{kind}:1.0"
        copy = [skopeo, "copy", "--all", "--preserve-digests"]
        _run(*copy, *insecure, f"docker://{source.host}/library/kinds:{kind}", pushed)
        digest = source.client.head(f"/v2/library/kinds/manifests/{kind}").headers["Docker-Content-Digest"]
        found = registry.client.get(f"/v2/pushed/{kind}/manifests/1.0")
        assert Digest.of(found.content) == found.headers["Docker-Content-Digest"] == digest
        _run(*copy, "--src-tls-verify=false", pushed, f"dir:{tmp_path}")
        assert Digest.of((tmp_path / "manifest.json").read_bytes()) == digest
        assert (tmp_path / Digest.of(BASE.content).hex).read_bytes() == BASE.content

    @pytest.mark.parametrize("to", ["oci", "v2s2"])
    def test_converts_on_the_way(
        self, registry: Registry, source: Registry, skopeo: str, tmp_path: Path, to: str
    ) -> None:
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        for kind in ("oci", "docker"):
            start = f"docker://{source.host}/library/kinds:{kind}"
            target = f"docker://{registry.host}/converted/{kind}:{to}"
            _run(skopeo, "copy", "--format", to, *insecure, start, target)
            _run(skopeo, "copy", "--src-tls-verify=false", target, f"oci:{tmp_path}/{kind}:1")

    def test_mounts_what_another_repository_has(
        self, registry: Registry, source: Registry, skopeo: str
    ) -> None:
        """The second copy moves no layer: skopeo remembers where it put them, and mounts."""
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        start = f"docker://{source.host}/library/kinds:oci"
        _run(skopeo, "copy", *insecure, start, f"docker://{registry.host}/mounts/one:1")
        registry.requests.new()
        _run(skopeo, "copy", *insecure, start, f"docker://{registry.host}/mounts/two:1")
        assert registry.requests.counts()["PATCH upload"] <= 1  # its config; layers are mounted

    def test_deletes(self, registry: Registry, source: Registry, skopeo: str) -> None:
        target = f"docker://{registry.host}/deleted/image:1"
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        _run(skopeo, "copy", *insecure, f"docker://{source.host}/library/kinds:oci", target)
        _run(skopeo, "delete", "--tls-verify=false", target)
        assert registry.client.get("/v2/deleted/image/manifests/1").status_code == 404


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for podman, which takes no more than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="pod-") as folder:
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="without root these need user namespaces")
@pytest.mark.parametrize("to", ["oci", "v2s2"])
class TestContainers:
    """podman and buildah, each with storage of its own."""

    def test_buildah_pushes_and_pulls(self, registry: Registry, tmp_path: Path, to: str) -> None:
        buildah = [_optional("buildah"), *_storage(tmp_path)]
        (tmp_path / "hello").write_text("hello\n")
        container = _run(*buildah, "from", "scratch").strip()
        _run(*buildah, "copy", container, f"{tmp_path}/hello", "/hello")
        _run(*buildah, "commit", "--rm", container, "made")
        target = f"docker://{registry.host}/buildah/{to}:1.0"
        _run(*buildah, "push", "--tls-verify=false", f"--format={to}", "made", target)
        assert registry.client.get(f"/v2/buildah/{to}/tags/list").json()["tags"] == ["1.0"]
        _run(*buildah, "rmi", "--all", "--force")
        _run(*buildah, "pull", "--tls-verify=false", target)

    def test_podman_pushes_and_pulls(self, registry: Registry, tmp_path: Path, short: Path, to: str) -> None:
        podman = [_optional("podman"), *_storage(short), f"--tmpdir={short}/pods"]
        (tmp_path / "root.tar").write_bytes(TOP.content)
        _run(*podman, "import", f"{tmp_path}/root.tar", "made")
        name = f"{registry.host}/podman/{to}:1.0"
        insecure = "--tls-verify=false"
        _run(*podman, "push", insecure, f"--format={to}", f"--digestfile={tmp_path}/digest", "made", name)
        pushed = registry.client.get(f"/v2/podman/{to}/manifests/1.0").headers["Docker-Content-Digest"]
        assert (tmp_path / "digest").read_text() == pushed
        _run(*podman, "rmi", "--all", "--force")
        for reference in (name, f"{registry.host}/podman/{to}@{pushed}"):
            image = _run(*podman, "pull", "--quiet", insecure, reference).strip()
            assert _run(*podman, "inspect", "--format={{.Digest}}", image).strip() == pushed
            _run(*podman, "rmi", "--all", "--force")


def _storage(folder: Path) -> list[str]:
    return ["--storage-driver=vfs", f"--root={folder}/root", f"--runroot={folder}/run"]


@contextmanager
def _containerd(program: str, folder: Path) -> Iterator[list[str]]:
    """A daemon of our own; what `ctr` has to be called with."""
    address = folder / "containerd.sock"
    (folder / "config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{address}"\n[ttrpc]\naddress = "{address}.ttrpc"\n'
    )
    child = subprocess.Popen(
        [program, "--config", str(folder / "config.toml"), "--log-level", "error"], stderr=subprocess.DEVNULL
    )
    try:
        ctr = [_optional("ctr"), "--address", str(address), "--connect-timeout", "30s"]
        for _ in range(300):
            if (
                address.exists()
                and subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0
            ):
                break
        yield ctr
    finally:
        child.terminate()
        child.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")
def test_containerd_pulls_and_pushes(registry: Registry, source: Registry, tmp_path: Path) -> None:
    with _containerd(_optional("containerd"), tmp_path) as ctr:
        for kind in ("index", "list"):
            name = f"{source.host}/library/kinds:{kind}"
            _run(*ctr, "content", "fetch", "--plain-http", "--all-platforms", name)
            pushed = f"{registry.host}/containerd/{kind}:1.0"
            _run(*ctr, "images", "push", "--plain-http", "--allow-non-distributable-blobs", pushed, name)
            ours = registry.client.head(f"/v2/containerd/{kind}/manifests/1.0")
            theirs = source.client.head(f"/v2/library/kinds/manifests/{kind}")
            assert ours.headers["Docker-Content-Digest"] == theirs.headers["Docker-Content-Digest"]
            _run(*ctr, "content", "fetch", "--plain-http", "--all-platforms", pushed)


@pytest.mark.parametrize("chunked", [False, True])
def test_oras_pushes_an_artifact_and_a_referrer(registry: Registry, tmp_path: Path, *, chunked: bool) -> None:
    """The Python client, where it is installed; it is no dependency of the tests."""
    oras: Any = pytest.importorskip("oras.client", reason="the oras Python client is not installed")
    oci: Any = pytest.importorskip("oras.oci")
    readme = tmp_path / "readme.txt"
    readme.write_text("an artifact\n")
    client = oras.OrasClient(hostname=registry.host, insecure=True)
    name = f"oras/artifact-{chunked}".lower()
    given = {"files": [str(readme)], "disable_path_validation": True, "do_chunked": chunked}
    client.push(f"{registry.host}/{name}:1.0", **given)
    client.pull(f"{registry.host}/{name}:1.0", outdir=str(tmp_path / "out"))
    assert [each.read_text() for each in (tmp_path / "out").rglob("readme.txt")] == ["an artifact\n"]
    subject = registry.client.head(f"/v2/{name}/manifests/1.0").headers
    digest = subject["Docker-Content-Digest"]
    pointer = oci.Subject(subject["Content-Type"], digest, int(subject["Content-Length"]))
    client.push(f"{registry.host}/{name}:referrer", subject=pointer, **given)
    (referrer,) = registry.client.get(f"/v2/{name}/referrers/{digest}").json()["manifests"]
    assert client.get_tags(f"{registry.host}/{name}") == ["1.0", "referrer"]
    pushed = registry.client.head(f"/v2/{name}/manifests/referrer").headers["Docker-Content-Digest"]
    assert referrer["digest"] == pushed
