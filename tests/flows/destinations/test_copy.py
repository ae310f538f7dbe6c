"""`mirrorflow copy`: one image from one registry to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import mirrorflow
from tests.support.push_target import PushTarget, push_target
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.destinations.syncing import assert_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = "team/app"


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        found.add_image(APP, "1.0", layers=(b"layer",))
        found.add_image(APP, "1x0", layers=(b"another",))
        yield found


@pytest.fixture
def target() -> Iterator[PushTarget]:
    with push_target() as found:
        yield found


@pytest.mark.parametrize(
    ("into", "repository", "tag"),
    [
        pytest.param("x/y", "x/y", "1.0", id="with its tag"),
        pytest.param("x/y:v1", "x/y", "v1", id="under another tag"),
        pytest.param("team/app", "team/app", "1.0", id="under its name"),
    ],
)
def test_an_image_is_copied(
    upstream: Misbehaving, target: PushTarget, into: str, repository: str, tag: str
) -> None:
    done = mirrorflow("copy", f"http://{upstream.host}/{APP}:1.0", f"{target.url}/{into}")
    assert done.returncode == 0, done.stderr
    assert_whole(target, repository, tag)
    assert [name for name in target.manifests[repository] if ":" not in name] == [tag]
    assert target.tag(repository, tag) in done.stdout


def test_reasons_name_options_and_no_keys_of_a_profile(target: PushTarget) -> None:
    host = target.url.removeprefix("http://")
    done = mirrorflow("copy", f"{host}/{APP}:1.0", f"{target.url}/x")
    assert done.returncode == 1
    assert "write http:// before the image" in done.stdout


def test_an_image_is_copied_by_its_digest(upstream: Misbehaving, target: PushTarget) -> None:
    digest = upstream.add_image(APP, "2", layers=(b"z",)).manifest.digest
    done = mirrorflow("copy", f"http://{upstream.host}/{APP}@{digest}", f"{target.url}/x")
    assert done.returncode == 0, done.stderr
    assert_whole(target, "x", digest)


def test_a_tag_that_names_something_else_is_overwritten_with_force_only(
    upstream: Misbehaving, target: PushTarget
) -> None:
    other = ("application/vnd.oci.image.manifest.v1+json", b"{}")
    target.manifests["x"]["1.0"] = other
    words = ["copy", f"http://{upstream.host}/{APP}:1.0", f"{target.url}/x"]
    done = mirrorflow(*words)
    assert done.returncode == 1
    assert "somebody else has set it there, where x:1.0 names" in done.stdout
    assert "--force overwrites it" in done.stdout
    assert target.manifests["x"]["1.0"] == other
    assert mirrorflow(*words, "--force", "--json").returncode == 0
    assert_whole(target, "x", "1.0")


def test_the_policies_of_a_profile_hold(upstream: Misbehaving, target: PushTarget, tmp_path: Path) -> None:
    document = {
        "storage": {"rootDirectory": "store"},
        "sync": {"registries": [{"urls": [f"http://{upstream.host}"], "onDemand": True}]},
        "verify": {"default": {"mode": "enforce"}, "rules": []},
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(document))
    done = mirrorflow("copy", f"http://{upstream.host}/{APP}:1.0", f"{target.url}/x", "--profile", path)
    assert done.returncode == 1
    assert "not admitted by no rule" in done.stdout
    assert not target.manifests["x"]


@pytest.mark.parametrize(
    ("source", "into", "said"),
    [
        pytest.param("r.example/app", "r.example/x", "has neither tag nor digest", id="no tag"),
        pytest.param("r.example/App:1", "r.example/x", "is no image", id="upper case"),
        pytest.param("ftp://r.example/app:1", "r.example/x", "is no image", id="scheme"),
        pytest.param("u:p@r.example/app:1", "r.example/x", "the image holds a login", id="login"),
        pytest.param(
            f"r.example/app@sha256:{'0' * 64}",
            "r.example/x:1",
            "named by its digest",
            id="a tag for a digest",
        ),
    ],
)
def test_what_is_refused_and_why(source: str, into: str, said: str) -> None:
    done = mirrorflow("copy", source, into)
    assert done.returncode == 1
    assert said in done.stderr
    assert "u:p" not in done.stderr


def test_an_image_that_is_not_there_is_named(upstream: Misbehaving, target: PushTarget) -> None:
    done = mirrorflow("copy", f"http://{upstream.host}/{APP}:9", f"{target.url}/x")
    assert done.returncode == 1
    assert "there is no such image" in done.stderr
