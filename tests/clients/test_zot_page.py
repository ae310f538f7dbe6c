"""The pulls that zot's page shows work with the shipped profiles as they are written, to the letter.

docker.io and k8s.gcr.io are stood in for by docker-registry, under their names and with TLS, in namespaces of
their own (own_world.py). The one thing that is not the world's: which CA signed their certificates, which
OpenSSL is told by SSL_CERT_FILE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flows.demo.sample_images import AMD64, ARM64, ImageMaker, layer
from profiles.examples.shipped import shipped_profile
from profiles.loader import load_profile
from registry_server.http.server_process import running_server
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.clients.own_world import Settings
from tests.clients.programs import run
from tests.support.certificates import Authority
from tests.support.docker_registry import running_docker_registry
from tests.support.documents import ROOT
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiles.model.profile import Profile
    from registry_server.oci.digest import Digest
    from registry_server.store.repository_reader import RepositoryReader

# Whose names are whose; docker.io itself serves no API.
UPSTREAMS = {"registry-1.docker.io": "library/alpine:latest", "k8s.gcr.io": "kube-proxy:v1.19.2"}


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory, skopeo: str, docker_registry: str) -> dict[str, str]:
    """What docker-registry keeps for each host: one image for two platforms."""
    folder = tmp_path_factory.mktemp("upstreams")
    store = Store.open(folder / "store", durability="none")
    with running_server(store.root) as url:
        for host, image in UPSTREAMS.items():
            name, _, tag = image.partition(":")
            maker = ImageMaker(store.repository(RepositoryName(name)))
            platforms = {AMD64: [layer(name, 50_000)], ARM64: [layer("arm", 50_000)]}
            maker.tag(maker.multi_platform(platforms, docker=True), tag)
            with running_docker_registry(docker_registry, folder / "up", root=folder / host) as upstream:
                here, there = (f"docker://{each}/{image}" for each in (url[7:], upstream.host))
                run(skopeo, "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", here, there)
    return {host: str(folder / host) for host in UPSTREAMS}


@contextmanager
def mount_points(*paths: str) -> Iterator[None]:
    """Folders to mount on; those that were not there are gone afterwards."""
    made = [path for path in map(Path, paths) if not path.exists()]
    for path in made:
        path.mkdir()
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # somebody has put something into it
                path.rmdir()


@pytest.mark.parametrize(
    ("name", "images", "folder"),
    [
        pytest.param(
            "on-demand-registries", ["docker-images/alpine", "k8s-images/kube-proxy:v1.19.2"], "zot", id="two"
        ),
        pytest.param("subpaths", ["kube-proxy/kube-proxy:v1.19.2"], "kube-proxy", id="a subpath"),
    ],
)
def test_the_pulls_of_the_page(
    world: Callable[..., World], name: str, images: list[str], folder: str
) -> None:
    page = world(name, images)
    found = page.run()
    assert found["catalog"] == {"repositories": sorted(image.partition(":")[0] for image in images)}
    store = page.store()
    for image in images:
        repository, _, tag = image.partition(":")
        kept = store.repository(RepositoryName(repository))  # its full name, also in the root of a subpath
        index = kept.find_manifest(Tag(tag or "latest"))
        assert file_of(kept, Tag(tag or "latest")).is_relative_to(page.work / folder)
        assert found["pulled"][image] in _configs(kept, index.descriptor.digest)


@dataclass(frozen=True)
class World:
    """A shipped profile in namespaces of its own, its folders below `work`."""

    profile: Profile
    settings: Settings
    command: tuple[str, ...]
    authority: Authority

    @property
    def work(self) -> Path:
        return Path(self.settings.work)

    def run(self) -> dict[str, Any]:
        command = [*self.command, sys.executable, "-m", "tests.clients.own_world", self.settings.to_json()]
        environment = {**os.environ, "SSL_CERT_FILE": str(self.authority.cert), "PYTHONPATH": str(ROOT)}
        with mount_points(*self.settings.folders):
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
            )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def store(self) -> Store:
        storage, real = self.profile.storage, self.settings.folders
        roots = {key: Path(real[str(shown)]) for key, shown in storage.roots().items()}
        return Store.open(Path(real[str(storage.root_directory)]), subpaths=roots, create=False)


@pytest.fixture
def world(
    tmp_path: Path, upstreams: dict[str, str], own_world: tuple[str, ...]
) -> Callable[[str, list[str]], World]:
    def make(name: str, images: list[str]) -> World:
        profile = load_profile(shipped_profile(name)).profile
        shown = (profile.storage.root_directory, *profile.storage.roots().values())
        folders = {str(folder): str(tmp_path / folder.name) for folder in shown}
        for folder in folders.values():
            Path(folder).mkdir()
        authority = Authority(tmp_path)
        pair = authority.server(names=UPSTREAMS)
        settings = Settings(name, images, upstreams, folders, str(tmp_path), str(pair.cert), str(pair.key))
        return World(profile, settings, own_world, authority)

    return make


def _configs(repository: RepositoryReader, index: Digest) -> Iterator[Digest]:
    """Of the platforms that are here: those that somebody asked for."""
    descriptor, body = repository.read_manifest(index)
    for child in parse_manifest(body, descriptor.media_type).manifests:
        if repository.has_blob(child.digest):
            config = parse_manifest(repository.read_manifest(child.digest)[1], child.media_type).config
            assert config is not None
            yield config.digest
