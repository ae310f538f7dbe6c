"""The main job on real input: docker-registry filled by skopeo, mirrored by the command, pulled by skopeo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from flows.demo.sample_images import AMD64, ARM64, ImageMaker, Layer, layer
from registry_server.http.server_process import running_server
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.support.certificates import Authority
from tests.support.docker_registry import DockerRegistry, running_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIG = 300_000_000
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.10.0", "2.0.0", "2.1.0-rc.1", "latest", "nightly")
APPS = ("4.0", "4.1", "4.2", "14.0", "edge")

PROFILE = """
storage: {{rootDirectory: store}}
sync:
  registries:
    - name: upstream
      urls: ["{url}"]
      {tls}
      content:
        - {{prefix: "library/*", tags: {{semver: true}}}}
        - {{prefix: "apps/**", tags: {{regex: '4\\..*'}}, destination: /mirror, stripPrefix: true}}
        - {{prefix: "multi/*"}}
"""
BIG_PROFILE = """
storage: {{rootDirectory: store}}
sync:
  registries:
    - {{name: big, urls: ["{url}"], content: [{{prefix: data/big}}]}}
"""
# What the profile makes of the upstream: name here -> name there.
WANTED = {
    **{f"library/base:{tag}": f"library/base:{tag}" for tag in VERSIONS if tag[0].isdigit()},
    **{f"library/tool:{tag}": f"library/tool:{tag}" for tag in VERSIONS if tag[0].isdigit()},
    **{f"mirror/web:{tag}": f"apps/web:{tag}" for tag in APPS if tag.startswith("4.")},
    "multi/index:1": "multi/index:1",
    "multi/index:docker": "multi/index:docker",
}


def _fill(store: Store) -> list[str]:
    """24 images in five repositories, sharing layers: plain, multi-platform, Docker's, and one of 300 MB."""
    base = layer("base", 400_000)
    names = []
    for repository in ("library/base", "library/tool"):
        maker = ImageMaker(store.repository(RepositoryName(repository)))
        for number, tag in enumerate(VERSIONS):
            maker.tag(maker.image([base, layer(f"{repository}-{tag}", 30_000)], docker=number % 2 == 0), tag)
            names.append(f"{repository}:{tag}")
    maker = ImageMaker(store.repository(RepositoryName("apps/web")))
    for tag in APPS:
        maker.tag(maker.image([base, layer(f"web-{tag}", 60_000)]), tag)
        names.append(f"apps/web:{tag}")
    maker = ImageMaker(store.repository(RepositoryName("multi/index")))
    platforms = {AMD64: [base, layer("amd", 9_000)], ARM64: [base]}
    maker.tag(maker.multi_platform(platforms), "1")
    maker.tag(maker.multi_platform(platforms, docker=True), "docker")
    big = ImageMaker(store.repository(RepositoryName("data/big")))
    big.tag(big.image([_big_layer()]), "1")
    return [*names, "multi/index:1", "multi/index:docker", "data/big:1"]


def _big_layer() -> Layer:
    """Bytes that nobody looks into: to compress 300 MB would take longer than everything else here."""
    content = os.urandom(BIG)
    return Layer(content, Digest.of(content))


def _skopeo(skopeo: str, *arguments: str) -> bytes:
    return subprocess.run([skopeo, *arguments], check=True, capture_output=True, timeout=120).stdout


@pytest.fixture(scope="module")
def pushed(skopeo: str, docker_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a docker-registry into which skopeo has pushed everything."""
    folder = tmp_path_factory.mktemp("pushed")
    store = Store.open(folder / "made", durability="none")
    names = _fill(store)
    insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    with (
        running_server(store.root) as made,
        running_docker_registry(docker_registry, folder / "http", root=folder / "root") as registry,
    ):
        host = made.partition("//")[2]
        for name in names:
            source, target = f"docker://{host}/{name}", f"docker://{registry.host}/{name}"
            _skopeo(skopeo, "copy", "--all", "--preserve-digests", *insecure, source, target)
    return folder / "root"


@pytest.fixture(scope="module")
def upstream(
    docker_registry: str, pushed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerRegistry]:
    with running_docker_registry(
        docker_registry, tmp_path_factory.mktemp("upstream"), root=pushed
    ) as registry:
        yield registry


def _sync_command(profile: Path) -> list[str]:
    return [sys.executable, "-c", "from flows.cli import main; main()", "sync", str(profile)]


def _sync(profile: Path, api_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _sync_command(profile),
        env={**os.environ, "PREFECT_API_URL": api_url},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def _profile(folder: Path, text: str, url: str, tls: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "profile.yaml"
    path.write_text(text.format(url=url, tls=tls))
    return path


def _digests(skopeo: str, host: str, names: dict[str, str] | list[str], *flags: str) -> dict[str, Digest]:
    """What a client gets: the digest of the raw manifest behind each name."""
    return {
        name: Digest.of(_skopeo(skopeo, "inspect", "--raw", *flags, f"docker://{host}/{name}"))
        for name in names
    }


@pytest.fixture(scope="module")
def mirrored(
    upstream: DockerRegistry, prefect_url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A first run over http: the profile, and how the command ended."""
    profile = _profile(tmp_path_factory.mktemp("mirrored"), PROFILE, upstream.url)
    upstream.new_requests()
    return profile, _sync(profile, prefect_url)


def test_the_first_run_brings_exactly_what_the_profile_wants(
    mirrored: tuple[Path, subprocess.CompletedProcess[str]], upstream: DockerRegistry, skopeo: str
) -> None:
    profile, ended = mirrored
    assert ended.returncode == 0, ended.stderr
    assert f"upstream: {len(WANTED)} of {len(WANTED)} images" in ended.stdout
    insecure = "--tls-verify=false"
    there = _digests(skopeo, upstream.host, list(WANTED.values()), insecure)
    with running_server(profile.parent / "store") as url:
        host = url.partition("//")[2]
        here = _digests(skopeo, host, list(WANTED), insecure)
    assert here == {name: there[source] for name, source in WANTED.items()}
    assert tags_in(profile.parent / "store") == set(WANTED)


def tags_in(root: Path) -> set[str]:
    store = Store.open(root, create=False)
    return {f"{name}:{tag}" for name in store.repositories() for tag in store.repository(name).tags()}


def test_skopeo_copies_every_layer_from_the_mirror(
    mirrored: tuple[Path, subprocess.CompletedProcess[str]], skopeo: str, tmp_path: Path
) -> None:
    profile, _ = mirrored
    with running_server(profile.parent / "store") as url:
        source = f"docker://{url.partition('//')[2]}/multi/index:1"
        _skopeo(
            skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", source, f"dir:{tmp_path}"
        )
    index = json.loads((tmp_path / "manifest.json").read_bytes())
    for child in index["manifests"]:
        digest = Digest(child["digest"])
        assert Digest.of((tmp_path / f"{digest.hex}.manifest.json").read_bytes()) == digest


def test_a_second_run_makes_one_head_a_tag_and_moves_nothing(
    mirrored: tuple[Path, subprocess.CompletedProcess[str]], upstream: DockerRegistry, prefect_url: str
) -> None:
    profile, _ = mirrored
    upstream.new_requests()
    ended = _sync(profile, prefect_url)
    assert ended.returncode == 0, ended.stderr
    assert "nothing new" in ended.stdout
    counts = upstream.new_counts()
    assert counts["HEAD manifests"] == len(WANTED)
    assert counts["GET manifests"] == counts["GET blobs"] == counts["HEAD blobs"] == 0


def test_the_same_works_over_tls_with_a_client_certificate(
    docker_registry: str, pushed: Path, prefect_url: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificates = tmp_path / "certs"
    certificates.mkdir()
    pair = authority.client("mirror")
    for source in (authority.cert, pair.cert, pair.key):
        (certificates / source.name).write_bytes(source.read_bytes())
    with running_docker_registry(
        docker_registry, tmp_path / "tls", root=pushed, authority=authority
    ) as registry:
        profile = _profile(tmp_path / "with", PROFILE, registry.url, f'certDir: "{certificates}"')
        ended = _sync(profile, prefect_url)
        refused = _sync(_profile(tmp_path / "without", PROFILE, registry.url), prefect_url)
    assert ended.returncode == 0, ended.stderr
    assert tags_in(profile.parent / "store") == set(WANTED)
    assert refused.returncode == 1
    assert "certDir" in refused.stdout + refused.stderr


def test_a_killed_run_is_resumed_with_a_range_request(
    upstream: DockerRegistry, prefect_url: str, tmp_path: Path, skopeo: str
) -> None:
    profile = _profile(tmp_path, BIG_PROFILE, upstream.url)
    had = _kill_in_the_middle(profile, prefect_url)
    assert tags_in(tmp_path / "store") == set()
    _await_log_of_cut_request(upstream)

    ended = _sync(profile, prefect_url)

    assert ended.returncode == 0, ended.stderr
    moved = [request for request in upstream.new_requests() if request.kind == "GET blobs"]
    resumed = [request for request in moved if request.status == 206]
    assert len(resumed) == 1
    assert had <= BIG + 1_000_000 - resumed[0].size
    assert sum(request.size for request in moved) < BIG
    with running_server(tmp_path / "store") as url:
        source = f"docker://{url.partition('//')[2]}/data/big:1"
        _skopeo(skopeo, "copy", "--src-tls-verify=false", source, f"dir:{tmp_path / 'copied'}")


def _await_log_of_cut_request(upstream: DockerRegistry) -> None:
    """The registry writes its line when it notices that nobody reads any more."""
    deadline = time.monotonic() + 60
    while not any(request.size > BIG // 20 for request in upstream.new_requests()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _kill_in_the_middle(profile: Path, api_url: str) -> int:
    """SIGKILL to a run while the big blob arrives; how many bytes of it were there."""
    incoming = profile.parent / "store" / "incoming"
    environment: dict[str, Any] = {**os.environ, "PREFECT_API_URL": api_url}
    child = subprocess.Popen(
        _sync_command(profile), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    try:
        while _largest(incoming) < BIG // 10:
            assert child.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the big blob never began to arrive"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    had = _largest(incoming)
    assert 0 < had < BIG
    return had


def _largest(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return max((_size(path) for path in folder.iterdir()), default=0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a small one that has just moved into the pool
        return 0
