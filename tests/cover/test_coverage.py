"""`mirrorflow cover`: is each image that is in use here, whole, for the nodes, fresh and admitted?"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flows.client_config.generate import mirror_of
from flows.cover.places import ClientView
from flows.cover.report import cover
from flows.cover.used_images import Use
from flows.demo.sample_images import AMD64, ARM64, layer
from profiles.additions import write_rules
from profiles.loader import load_profile
from registry_server.oci.descriptor import Platform
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.cover.clusters import node, pod, serve_cluster, write_kubeconfig
from tests.flows.test_cli import mirrorflow
from tests.support.registries import Registry, running_registry
from tests.support.stored_files import file_of
from tests.support_behaviours import answers
from tests.support_misbehaving import Misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flows.cover.report import CoverReport
    from registry_server.oci.digest import Digest

ENTRY = "name: up, urls: ['{url}'], pollInterval: 6h"
RULES = """\
        - {prefix: shop/web, tags: {semverRange: '>=1 <2'}, platforms: [linux/amd64]}
        - {prefix: shop/db, destination: /kept}
        - {prefix: shop/tool, destination: /moved/tool, stripPrefix: true}
        - {prefix: shop/new, tags: {semver: true, newest: 1}}
        - {prefix: shop/named, tags: {rename: {regex: 'v(.*)', to: '$1'}}}
"""


@dataclass(frozen=True)
class World:
    """An upstream, and a profile with a store that mirrors it."""

    upstream: Registry
    folder: Path

    @property
    def profile(self) -> Path:
        return self.folder / "profile.yaml"

    def write(self, rules: str = RULES, entry: str = "", more: str = "") -> None:
        keys = (entry or ENTRY).replace("{url}", self.upstream.url).split(", ")
        lines = "\n      ".join(keys)
        self.profile.write_text(
            "# a profile\nstorage: {rootDirectory: store}\nhttp: {port: 5555}\n"
            f"{more}sync:\n  registries:\n    - {lines}\n" + (f"      content:\n{rules}" if rules else "")
        )

    def image(self, name: str) -> str:
        return f"{self.upstream.host}/{name}"

    def cover(
        self, *images: str, platforms: Iterable[str] = (), client: str = "containerd", address: str = ""
    ) -> CoverReport:
        profile = load_profile(self.profile).profile
        view = ClientView(profile, mirror_of(profile, address=address), client)
        uses = [Use(image, "a list") for image in images]
        return cover(uses, view, [Platform.parse(each) for each in platforms], time.time())

    def state(self, image: str, platforms: Iterable[str] = (), client: str = "containerd") -> tuple[str, str]:
        """State and reason of one image of the upstream."""
        (found,) = self.cover(self.image(image), platforms=platforms, client=client).coverages
        return str(found.state), found.reason

    def command(self, *arguments: object) -> dict[str, Any]:
        """What the command prints as JSON, with its exit code as `exit`."""
        done = mirrorflow("cover", self.profile, "--json", *arguments)
        assert done.stdout, done.stderr
        return {**json.loads(done.stdout), "exit": done.returncode}

    @property
    def store(self) -> Store:
        return Store.open(self.folder / "store", create=False)

    def digest(self, repository: str, tag: str) -> Digest:
        return (
            self.upstream.store.repository(RepositoryName(repository))
            .find_manifest(Tag(tag))
            .descriptor.digest
        )


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("cover")
    (folder / "log").mkdir()
    with running_registry(folder / "log", root=folder / "upstream") as upstream:
        for name in ("web", "db", "tool", "new", "named"):
            maker = upstream.maker(f"shop/{name}")
            for version in ("v1.0.0", "v1.1.0", "v2.0.0"):
                layers = {
                    each: [layer(f"{name}{version}{each.architecture}", 900)] for each in (AMD64, ARM64)
                }
                maker.tag(maker.multi_platform(layers, attested=True), version)
        maker = upstream.maker("shop/db")
        maker.tag(maker.image([layer("single", 900)]), "single")
        world = World(upstream, folder)
        world.write()
        done = mirrorflow("sync", world.profile)
        assert done.returncode == 0, done.stderr
        yield world


@pytest.fixture
def world(mirrored: World, tmp_path: Path) -> World:
    """A copy, for a test to spoil."""
    shutil.copytree(mirrored.folder / "store", tmp_path / "store")
    shutil.copy(mirrored.profile, tmp_path)
    return World(mirrored.upstream, tmp_path)


COVER = Path(__file__).parents[2] / "docs/cover.md"
BOTH = ("linux/amd64", "linux/arm64")


@pytest.mark.parametrize(
    ("image", "platforms", "state", "reason"),
    [
        pytest.param("shop/web:v1.0.0", (), "covered", "", id="all that the rule wants is here"),
        pytest.param("shop/db:v2.0.0", BOTH, "covered", "", id="below a destination"),
        pytest.param("shop/db:single", ("linux/amd64",), "covered", "", id="of one platform"),
        pytest.param(
            "shop/web:v1.0.0", BOTH, "platform missing", "not stored for linux/arm64", id="a platform"
        ),
        pytest.param(
            "shop/web:v2.0.0",
            (),
            "not mirrored",
            "the content rules of up leave it out: v2.0.0 is outside of semverRange >=1 <2",
            id="a tag that the rule drops",
        ),
        pytest.param(
            "other/app:1", (), "not mirrored", "no content rule takes", id="a repository without a rule"
        ),
        pytest.param(
            "shop/db:v9", (), "not here", "did not find it upstream", id="the upstream has no such tag"
        ),
        pytest.param(
            "shop/new:v1.1.0", (), "not here", "it is none of the newest 1", id="not among the newest"
        ),
        pytest.param("shop/named:v1.0.0", (), "not here", "renames the tag to 1.0.0", id="renamed here"),
        pytest.param(
            "shop/tool:v1.0.0",
            (),
            "not where clients look",
            "it is filed as moved/tool, and containerd asks for it as shop/tool, kept/shop/tool",
            id="containerd can only put a path before a name",
        ),
        pytest.param("Shop/Web:1", (), "no image name", "no container runtime takes it", id="not a name"),
    ],
)
def test_the_state_of_an_image(
    mirrored: World, image: str, platforms: tuple[str, ...], state: str, reason: str
) -> None:
    found = mirrored.state(image, platforms)
    assert found[0] == state, found
    assert reason in found[1]
    assert bool(found[1]) is (state != "covered")


@pytest.mark.parametrize("client", ["podman", "cri-o"])
def test_clients_that_can_replace_a_name_look_elsewhere(mirrored: World, client: str) -> None:
    assert mirrored.state("shop/tool:v1.0.0", client=client) == ("covered", "")


def test_another_registry_is_not_mirrored_although_the_names_are_the_same(mirrored: World) -> None:
    found = mirrored.cover("registry.example/shop/web:v1.0.0")
    assert found.coverages[0].state == "not mirrored"


def test_an_image_by_its_digest(mirrored: World) -> None:
    digest = mirrored.digest("shop/db", "v1.0.0")
    assert mirrored.state(f"shop/db@{digest}", BOTH) == ("covered", "")
    assert mirrored.state(f"shop/db:comment@{digest}") == ("covered", "")
    assert mirrored.state(f"shop/db@sha256:{'0' * 64}")[0] == "not here"


def test_an_image_that_is_named_by_the_address_of_the_mirror(mirrored: World) -> None:
    names = [f"127.0.0.1:5555/{name}" for name in ("shop/web:v1.0.0", "moved/tool:v1.0.0", "no/such:1")]
    found = {each.image.written: each.state for each in mirrored.cover(*names).coverages}
    assert [str(found[name]) for name in names] == ["covered", "covered", "not here"]
    assert mirrored.cover("mirror.example/shop/web:v1.0.0", address="mirror.example").is_covered


def test_a_platform_that_the_image_itself_lacks_is_only_a_note(mirrored: World) -> None:
    found = mirrored.cover(mirrored.image("shop/db:v1.0.0"), platforms=["linux/s390x"])
    assert found.is_covered
    assert list(found.coverages[0].notes) == ["the image itself has nothing for linux/s390x"]


def test_a_lost_blob_is_found(world: World) -> None:
    repository = world.store.repository(RepositoryName("kept/shop/db"))
    _, body = repository.read_manifest(Tag("single"))
    file_of(repository, parse_manifest(body).layers[0].digest).unlink()
    state, reason = world.state("shop/db:single")
    assert (state, "there is no blob" in reason) == ("incomplete", True)


def test_a_blob_that_was_cut_short_is_found(world: World) -> None:
    repository = world.store.repository(RepositoryName("kept/shop/db"))
    _, body = repository.read_manifest(Tag("single"))
    path = file_of(repository, parse_manifest(body).layers[0].digest)
    path.chmod(0o600)
    path.write_bytes(b"short")
    assert "has 5 bytes here" in world.state("shop/db:single")[1]


def test_a_damaged_manifest_is_found(world: World) -> None:
    path = file_of(world.store.repository(RepositoryName("kept/shop/db")), Tag("v1.0.0"))
    path.chmod(0o600)
    path.write_bytes(b"{}")
    state, reason = world.state("shop/db:v1.0.0")
    assert (state, "is damaged" in reason) == ("incomplete", True)


def test_before_the_first_run_nothing_is_here(world: World) -> None:
    shutil.rmtree(world.folder / "store")
    assert world.state("shop/web:v1.0.0") == ("not here", "there is no store yet: run `mirrorflow sync`")
    assert not (world.folder / "store").exists()


def test_a_rule_that_no_run_has_seen_says_what_to_run(world: World) -> None:
    world.write(f"{RULES}        - {{prefix: more/app}}\n")
    assert world.state("more/app:1")[1].endswith("run `mirrorflow sync --registry up`")


def test_a_tag_that_moved_and_could_not_be_fetched_is_stale(world: World) -> None:
    maker = world.upstream.maker("shop/late")
    maker.tag(maker.image([layer("old", 900)]), "v1")
    world.write("        - {prefix: shop/late}\n")
    assert mirrorflow("sync", world.profile).returncode == 0
    assert world.state("shop/late:v1") == ("covered", "")
    maker.tag(maker.image([layer("new", 900)]), "v1")
    upstream = world.upstream.store.repository(RepositoryName("shop/late"))
    _, body = upstream.read_manifest(Tag("v1"))
    file_of(upstream, parse_manifest(body).layers[0].digest).unlink()
    assert mirrorflow("sync", world.profile).returncode == 1
    state, reason = world.state("shop/late:v1")
    assert (state, "404" in reason) == ("stale", True), reason


def test_a_tag_that_was_not_compared_for_too_long_is_stale(world: World) -> None:
    for path in (world.folder / "store/polls").rglob("*.json"):
        poll = json.loads(path.read_text())
        path.write_text(json.dumps(poll | {"checked": poll["checked"] - 8 * 3600}))
    state, reason = world.state("shop/web:v1.0.0")
    assert (state, reason) == ("stale", "compared with its upstream 8 h ago, polled every 6h")
    world.write(entry="name: up, urls: ['{url}']")
    assert world.state("shop/web:v1.0.0") == ("covered", ""), "without a schedule nothing is late"


def test_what_waits_for_its_age_is_not_admitted(world: World) -> None:
    world.write("        - {prefix: shop/web, destination: /aged, minAge: 30d}\n")
    assert mirrorflow("sync", world.profile).returncode == 0
    state, reason = world.state("shop/web:v2.0.0")
    assert (state, "waits" in reason or "until" in reason) == ("not admitted", True), reason


def test_what_a_policy_refuses_is_not_admitted(world: World) -> None:
    _require_signatures(world)
    assert mirrorflow("sync", world.profile).returncode == 1
    assert world.state("shop/web:v1.0.0")[0] == "not admitted"


def _require_signatures(world: World) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (world.folder / "key.pub").write_bytes(pem)
    rule = "{match: ['**'], mode: enforce, signatures: {from: [{name: us, type: key, key: us}]}}"
    world.write(more=f"trust: {{keys: {{us: {{file: key.pub}}}}}}\nverify: {{rules: [{rule}]}}\n")


def test_on_demand_counts_only_what_is_here(world: World) -> None:
    """A cache that nobody has asked helps nobody when its upstream is away."""
    world.write("", entry="name: up, urls: ['{url}'], onDemand: true")
    shutil.rmtree(world.folder / "store")
    Store.open(world.folder / "store")
    found = world.cover(world.image("shop/web:v1.0.0"))
    assert found.coverages[0].reason == "it comes only when a client asks for it, and none has"
    (suggestion,) = found.suggestions
    assert suggestion.keys, "a rule in an entry that takes everything on demand would narrow it"


def test_with_ns_the_name_here_does_not_matter(world: World) -> None:
    """Where the mirror understands `?ns=`, containerd needs no path before the name."""
    rules = "".join(line for line in RULES.splitlines(keepends=True) if "rename" not in line)
    world.write(rules, entry="name: up, urls: ['{url}'], pollInterval: 6h, onDemand: true")
    assert world.state("shop/tool:v1.0.0") == ("covered", "")


def test_vhosts_are_looked_at_by_their_entry(world: World) -> None:
    text = world.profile.read_text()
    world.profile.write_text(text.replace("port: 5555", "port: 5555, vhosts: {sub.example: up}"))
    found = world.cover("sub.example/shop/tool:v1.0.0")
    assert found.coverages[0].state == "not mirrored", "a virtual host is no upstream of an image"


def test_write_adds_what_is_missing_and_the_next_run_covers_it(world: World) -> None:
    images = [world.image(name) for name in ("shop/web:v2.0.0", "shop/web:v1.0.0", "shop/tool:v1.0.0")]
    (world.folder / "images").write_text("\n".join(images))
    options = ("--images", world.folder / "images", "--platform", BOTH[0], "--platform", BOTH[1])
    first = world.command(*options, "--write")
    assert (first["exit"], first["covered"], len(first["suggestions"])) == (2, False, 1)
    assert world.profile.read_text().startswith("# a profile\n")
    assert mirrorflow("sync", world.profile).returncode == 0
    second = world.command(*options)
    assert (second["exit"], second["covered"], second["suggestions"]) == (0, True, [])


def test_a_registry_that_is_new_gets_an_entry_of_its_own(world: World) -> None:
    images = ["nginx:1.27", "quay.io/team/app:1", "localhost:5000/a:1"]
    suggestions = world.cover(*images).suggestions
    assert {each.entry: (each.keys["urls"], [*each.rules]) for each in suggestions} == {
        "docker.io": (["https://docker.io"], [{"images": ["library/nginx:1.27"]}]),
        "localhost-5000": (
            ["http://localhost:5000"],
            [{"images": ["a:1"], "destination": "/localhost-5000"}],
        ),
        "quay.io": (["https://quay.io"], [{"images": ["team/app:1"], "destination": "/quay.io"}]),
    }
    write_rules(world.profile, suggestions)
    again = world.cover(*images)
    assert {str(each.state) for each in again.coverages} == {"not here"}, "rules take them, and no run has"


def test_what_was_added_is_not_suggested_again(world: World) -> None:
    """Before the next run, too: a platform is still missing then."""
    images = [world.image(name) for name in ("shop/web:v2.0.0", "shop/web:v1.0.0", "shop/tool:v1.0.0")]
    first = world.cover(*images, platforms=BOTH)
    assert len(first.suggestions) == 1
    write_rules(world.profile, first.suggestions)
    second = world.cover(*images, platforms=BOTH)
    assert not second.is_covered
    assert second.suggestions == []


def test_an_entry_beside_one_that_is_only_on_demand_is_not_suggested_again(world: World) -> None:
    world.write("", entry="name: up, urls: ['{url}'], onDemand: true")
    shutil.rmtree(world.folder / "store")
    write_rules(world.profile, world.cover(world.image("shop/web:v1.0.0")).suggestions)
    assert world.cover(world.image("shop/web:v1.0.0")).suggestions == []


def test_no_suggestion_is_made_for_what_a_run_would_bring(world: World) -> None:
    shutil.rmtree(world.folder / "store")
    assert world.cover(world.image("shop/web:v1.0.0")).suggestions == []


def test_a_profile_that_cannot_be_added_to_is_left_alone(world: World) -> None:
    toml = world.folder / "profile.toml"
    toml.write_text('[storage]\nrootDirectory = "store"\n')
    (world.folder / "images").write_text("nginx:1")
    done = mirrorflow("cover", toml, "--images", world.folder / "images", "--write")
    assert done.returncode == 1
    assert "TOML cannot be added to" in done.stderr
    assert "library/nginx:1" in done.stdout, "what to add is printed all the same"


def test_a_cluster_is_asked_for_its_pods_and_its_platforms(world: World) -> None:
    digest = f"sha256:{'1' * 64}"
    running = {"containerStatuses": [{"name": "main", "imageID": f"x@{digest}"}]}
    with Misbehaving() as api:
        serve_cluster(
            api,
            pods=[
                pod("web", world.image("shop/web:v1.0.0")),
                pod("db", world.image("shop/db:v1.0.0"), status=running),
            ],
            nodes=[node("a", "amd64", "registry.k8s.io/pause:3.10"), node("b", "arm64")],
        )
        path = write_kubeconfig(world.folder, f"http://{api.host}", {"token": "t"})
        found = world.command("--kubeconfig", path)
    assert found["exit"] == 2
    assert found["platforms"] == ["linux/amd64", "linux/arm64"]
    states = {each["image"]: each["state"] for each in found["images"]}
    assert states == {
        world.image("shop/web:v1.0.0"): "platform missing",
        world.image("shop/db:v1.0.0"): "covered",
        "registry.k8s.io/pause:3.10": "not mirrored",
    }
    notes = next(each["notes"] for each in found["images"] if each["state"] == "covered")
    assert notes == ["1 digest of it that run are not what the tag names here; that is not here"]


def test_what_could_not_be_looked_at_is_not_called_covered(world: World) -> None:
    with Misbehaving() as api:
        serve_cluster(api, pods=[pod("db", world.image("shop/db:v1.0.0"))])
        api.on("/apis/apps/v1/daemonsets", answers(403, b'{"kind": "Status", "message": "no"}'))
        path = write_kubeconfig(world.folder, f"http://{api.host}")
        found = world.command("--kubeconfig", path)
    assert (found["exit"], found["covered"]) == (1, False)
    assert found["images"][0]["covered"]
    assert found["notRead"] == ["apis/apps/v1/daemonsets: the user may not list them (no)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--kubeconfig", "/no/such"], "there is no kubeconfig at /no/such", id="no kubeconfig"),
        pytest.param(["--images", "/dev/null"], "so there is nothing to cover", id="no image at all"),
        pytest.param(
            ["--images", "/dev/null", "--platform", "a/b/c/d"], "is not a platform", id="a platform"
        ),
    ],
)
def test_a_mistake_is_one_line(mirrored: World, arguments: list[str], message: str) -> None:
    done = mirrorflow("cover", mirrored.profile, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_fields_of_the_json_are_documented(mirrored: World) -> None:
    found = mirrored.cover("nginx:1", mirrored.image("shop/web:v1.0.0"))
    document = {"version": 1, **found.to_json()}
    named = set(re.findall(r"`(\w+)`", COVER.read_text().partition("## `cover --json`")[2]))
    assert {*document, *document["images"][0], *document["suggestions"][0]} == named


def test_the_table_says_what_is_not_covered_and_the_rule_for_it(mirrored: World, tmp_path: Path) -> None:
    (tmp_path / "images").write_text(f"{mirrored.image('shop/web:v1.0.0')}\n[red]bold[/red]\n")
    manifest = {
        "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"image": "nginx:1"}]},
    }
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    options = ("--images", tmp_path / "images", "--manifests", tmp_path / "m.json")
    done = mirrorflow("cover", mirrored.profile, *options)
    assert done.returncode == 2
    assert "[red]bold[/red]" in done.stdout, "what others write is no markup"
    assert "Deployment a, container" in done.stdout
    assert "1 of 3 images covered" in done.stdout
    assert "shop/web" not in done.stdout
    assert "        - library/nginx:1\n" in done.stdout
    assert "shop/web" in mirrorflow("cover", mirrored.profile, *options, "--all").stdout
