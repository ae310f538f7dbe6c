"""The state of each image that is in use: here, whole, for the nodes, fresh and admitted?"""

from __future__ import annotations

import json
import shutil

import pytest

from flows.demo.sample_images import layer
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.cover.worlds import BOTH, RULES, World
from tests.support.command_line import mirrorflow
from tests.support.stored_files import file_of


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
