"""Real clients pull through the mirror from docker-registry, with what `mirrorflow client` makes for them."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import bcrypt
import pytest

from flows.client_config.generate import make, mirror_of
from flows.client_config.model import write_files
from flows.demo.sample_images import AMD64, ARM64, ImageMaker, layer
from profiles.loader import parse_profile
from profiles.server_options import server_options
from registry_server.http.server_process import ServerProcess, running_server
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.clients.buildkit import running_buildkit
from tests.clients.gate import gate_before
from tests.clients.programs import Podman, PullFailed, run, running_containerd
from tests.on_demand.mirrors import document, mirroring
from tests.support.certificates import Authority
from tests.support.docker_registry import DockerRegistry, running_docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiles.model.profile import Profile
    from tests.clients.gate import Gate
    from tests.on_demand.mirrors import Mirror

CONTENT = [{"prefix": "library/**", "destination": "/mirror", "stripPrefix": True}]


class Client(Protocol):
    """Each pull has to bring everything: `forget` first."""

    def pull(self, image: str) -> str: ...
    def forget(self) -> None: ...


@dataclass(frozen=True)
class World:
    """docker-registry behind a gate, and the mirror before it; clients know upstream's name only."""

    upstream: DockerRegistry
    gate: Gate
    mirror: Mirror
    digests: dict[str, str]  # of manifests, by tag

    def name(self, reference: str) -> str:
        return f"{self.gate.host}/library/app{'@' if ':' in reference else ':'}{reference}"

    def configure(self, kind: str, folder: Path, *, fallback: bool = False) -> Path:
        """Write what this kind of client needs; returns its `etc`."""
        entry = document(f"http://{self.gate.host}", content=CONTENT)
        text = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}}
        profile = parse_profile(json.dumps(text), folder / "profile.json").profile
        return configure(kind, folder, profile, self.mirror.host, fallback=fallback)


def configure(kind: str, folder: Path, profile: Profile, address: str, **options: Any) -> Path:
    write_files(make(kind, profile, mirror_of(profile, address=address, **options)).files, folder)
    return folder / "etc"


@pytest.fixture(scope="module")
def filled(
    tmp_path_factory: pytest.TempPathFactory, skopeo: str, docker_registry: str
) -> Iterator[tuple[DockerRegistry, dict[str, str]]]:
    """docker-registry with five tags: images and indexes, OCI's and Docker's, and one nobody pulls."""
    folder = tmp_path_factory.mktemp("filled")
    store = Store.open(folder / "store", durability="none")
    repository = store.repository(RepositoryName("library/app"))
    maker, base = ImageMaker(repository), layer("base", 400_000)
    maker.tag(maker.image([base, layer("image", 30_000)]), "image")
    maker.tag(maker.image([base, layer("docker", 30_000)], docker=True), "docker")
    maker.tag(maker.multi_platform({AMD64: [base, layer("amd", 9_000)], ARM64: [base]}), "index")
    maker.tag(maker.multi_platform({AMD64: [base], ARM64: [base]}, docker=True), "list")
    maker.tag(maker.image([layer("unseen", 1_000)]), "unseen")
    digests = {str(tag): str(record.digest) for tag, record in repository.tag_records().items()}
    with running_docker_registry(docker_registry, folder / "up", root=folder / "registry") as upstream:
        with running_server(store.root) as url:
            for tag in digests:
                here, there = (f"docker://{host}/library/app:{tag}" for host in (url[7:], upstream.host))
                run(skopeo, "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", here, there)
        yield upstream, digests


@pytest.fixture
def world(tmp_path: Path, filled: tuple[DockerRegistry, dict[str, str]]) -> Iterator[World]:
    upstream, digests = filled
    with gate_before(upstream.host) as gate:
        entry = document(f"http://{gate.host}", content=CONTENT, connectTimeout="1s")
        with mirroring(tmp_path / "mirror", entry) as mirror:
            upstream.new_requests()
            yield World(upstream, gate, mirror, digests)


@dataclass(frozen=True)
class Skopeo:
    """It asks a mirror as podman does, which is enough where there is no podman."""

    program: str
    folder: Path
    etc: Path

    def pull(self, image: str) -> str:
        conf = self.etc / "containers/registries.conf.d/50-mirrorflow.conf"
        run(self.program, "--registries-conf", conf, "copy", f"docker://{image}", f"dir:{self.folder}")
        return str(json.loads((self.folder / "manifest.json").read_text())["config"]["digest"])

    def forget(self) -> None:
        """It keeps nothing."""


@pytest.fixture
def short() -> Iterator[Path]:
    """podman refuses a `--runroot` of more than 50 characters, and a socket's path has 104 at most."""
    with tempfile.TemporaryDirectory(prefix="mirrorflow-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def client_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str, Path], Client]]:
    """Makes a client of a kind, with its configuration in the folder that is given."""
    with ExitStack() as running:

        def make_one(kind: str, etc: Path) -> Client:
            folder = request.getfixturevalue("short") / etc.parent.name
            if kind == "containerd":
                daemon, ctr = request.getfixturevalue("containerd")
                return running.enter_context(running_containerd(daemon, ctr, folder, etc))
            if kind == "buildkit":
                daemon, buildctl = request.getfixturevalue("buildkit")
                return running.enter_context(running_buildkit(daemon, buildctl, folder, etc))
            if kind == "podman":
                return Podman(request.getfixturevalue("podman"), folder, etc)
            return Skopeo(request.getfixturevalue("skopeo"), folder, etc)

        yield make_one


@pytest.mark.parametrize("kind", ["skopeo", "podman", "containerd", "buildkit"])
def test_a_client_pulls_whatever_happens_to_the_upstream(
    world: World, tmp_path: Path, client_of: Callable[[str, Path], Client], kind: str
) -> None:
    etc = world.configure("podman" if kind == "skopeo" else kind, tmp_path / "a")
    client = client_of(kind, etc)
    references = [*(tag for tag in world.digests if tag != "unseen"), world.digests["index"]]

    # Cold: the first one brings what the others share, and no blob leaves upstream twice.
    ids = {reference: client.pull(world.name(reference)) for reference in references}
    assert ids[world.digests["index"]] == ids["index"]
    if kind == "containerd":
        assert {tag: ids[tag] for tag in references[:-1]} == {
            tag: world.digests[tag] for tag in references[:-1]
        }
    world.mirror.work.wait()
    blobs = [each.target for each in world.upstream.new_requests() if each.kind == "GET blobs"]
    assert blobs
    assert len(blobs) == len(set(blobs))

    def pull_all_again() -> None:
        client.forget()
        assert {reference: client.pull(world.name(reference)) for reference in references} == ids

    pull_all_again()
    assert set(world.upstream.new_counts()) <= {"HEAD manifests"}
    world.gate.hang()
    pull_all_again()
    world.gate.close()
    pull_all_again()
    with pytest.raises(PullFailed):
        client.pull(world.name("unseen"))
    assert not world.upstream.new_requests()


@pytest.mark.parametrize("kind", ["skopeo", "podman", "containerd"])
def test_a_client_goes_on_upstream_only_where_it_may(
    world: World, tmp_path: Path, client_of: Callable[[str, Path], Client], kind: str
) -> None:
    """The mirror has no answer, and the upstream would have one."""
    files = "podman" if kind == "skopeo" else kind
    strict = client_of(kind, world.configure(files, tmp_path / "strict"))
    world.mirror.stop_receiver()
    with pytest.raises(PullFailed):
        strict.pull(world.name("image"))
    assert not world.upstream.new_requests()
    loose = client_of(kind, world.configure(files, tmp_path / "loose", fallback=True))
    assert loose.pull(world.name("image"))


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[str, Profile, Authority]]:
    """A server with a CA of its own and a login, and its store with one image; nothing on demand."""
    authority = Authority(tmp_path)
    pair = authority.server()
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"alice:{hashed}\n")
    entry = {"urls": ["http://127.0.0.1:9"], "content": [{"prefix": "**", "destination": "/mirror"}]}
    text = {
        "storage": {"rootDirectory": "store"},
        "http": {
            "port": 0,
            "tls": {"cert": str(pair.cert), "key": str(pair.key)},
            "auth": {"htpasswd": {"path": "htpasswd"}},
        },
        "sync": {"registries": [entry]},
    }
    profile = parse_profile(json.dumps(text), tmp_path / "locked.json").profile
    maker = ImageMaker(
        Store.open(tmp_path / "store", durability="none").repository(RepositoryName("mirror/app"))
    )
    maker.tag(maker.image([layer("one", 1_000)]), "1")
    server = ServerProcess(server_options(profile))
    try:
        yield server.url, profile, authority
    finally:
        server.stop()


def test_podman_trusts_the_ca_and_logs_in(
    tmp_path: Path, short: Path, podman: str, locked: tuple[str, Profile, Authority]
) -> None:
    url, profile, authority = locked
    host = url.partition("//")[2]
    etc = configure("podman", tmp_path, profile, url, authority=authority.cert, fallback=False)
    client = Podman(podman, short, etc)
    (client.folder / ".config/containers").mkdir(parents=True)
    (etc / "containers/certs.d").rename(client.folder / ".config/containers/certs.d")
    with pytest.raises(PullFailed, match=r"unauthorized|authentication required"):
        client.pull("127.0.0.1:9/app:1")
    client.login(host, "alice", "secret")
    assert client.pull("127.0.0.1:9/app:1")


def test_containerd_trusts_the_ca_and_logs_in(
    tmp_path: Path, short: Path, containerd: tuple[str, str], locked: tuple[str, Profile, Authority]
) -> None:
    """By a path, as the server is not asked on demand; and with the header that the file shows."""
    url, profile, authority = locked
    etc = configure("containerd", tmp_path, profile, url, authority=authority.cert, fallback=False)
    hosts = etc / "containerd/certs.d/127.0.0.1:9/hosts.toml"
    text = hosts.read_text().replace("/etc/containerd", str(etc / "containerd"))
    hosts.write_text(text)
    with running_containerd(*containerd, short / "containerd", etc) as client:
        with pytest.raises(PullFailed, match=r"401|[Aa]uthori"):
            client.pull("127.0.0.1:9/app:1")
        text = text.replace("# [", "[").replace("# authorization", "authorization")
        hosts.write_text(text.replace("Basic …", "Basic YWxpY2U6c2VjcmV0"))
        assert client.pull("127.0.0.1:9/app:1").startswith("sha256:")
