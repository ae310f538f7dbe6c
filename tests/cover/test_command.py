"""`mirrorflow cover`: what it reads of a cluster, and what it prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cover.clusters import node, pod, serve_cluster, write_kubeconfig
from tests.support.command_line import mirrorflow
from tests.support_behaviours import answers
from tests.support_misbehaving import Misbehaving

if TYPE_CHECKING:
    from tests.cover.worlds import World

COVER = Path(__file__).parents[2] / "docs/cover.md"


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
