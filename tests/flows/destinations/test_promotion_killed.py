"""A promotion into another registry that is killed: images there stay whole, and the next one ends it."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from registry_server.oci.reference import RepositoryName
from tests.registry_server.store.images import put_image
from tests.support.docker_registry import running_docker_registry
from tests.support.documents import ROOT
from tests.tasks.destinations.test_killed import assert_served, killed_after
from tests.tasks.stored.bundles.sides import Side

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.digest import Digest

TAGS = [f"v{number}" for number in range(6)]
KILLS = 5
MOST_REQUESTS = 34  # a promotion of these takes 36


def release(side: Side, number: int) -> dict[str, Digest]:
    """Another content under every tag."""
    held = side.store.repository(RepositoryName("dev/app"))
    found = {}
    for tag in TAGS:
        made = put_image(held, f"{number} {tag}".encode() * 1000)
        side.tag(f"dev/app:{tag}", made)
        found[tag] = made.digest
    return found


def finished(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code, and what it said."""
    _, said = child.communicate()
    return child.returncode, said


def promotion(side: Side) -> subprocess.Popen[str]:
    command = "from flows.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", command, "promote", str(side.profile), "dev", "other:prod"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def served(url: str) -> dict[str, str]:
    """What each tag names there, after all that it stands on was pulled and hashed."""
    found = {}
    for tag in TAGS:
        assert_served(url, "prod/app", tag)
        head = httpx.head(
            f"{url}/v2/prod/app/manifests/{tag}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        )
        found[tag] = head.headers["Docker-Content-Digest"]
    return found


def test_killed_at_any_moment_it_leaves_whole_images_and_the_next_one_ends_it(
    tmp_path: Path, docker_registry: str
) -> None:
    chance = random.Random(20261130)  # noqa: S311 - moments, no secrets
    with running_docker_registry(docker_registry, tmp_path / "log", root=tmp_path / "root") as target:
        side = Side(tmp_path / "side", content=[{"prefix": "hub/**"}])
        side.destinations = [{"name": "other", "url": target.url}]
        before = release(side, 0)
        assert finished(promotion(side))[0] == 0
        killed = 0
        for number in range(1, KILLS + 1):
            after = release(side, number)
            child = promotion(side)
            killed += killed_after(child, target, chance.randrange(1, MOST_REQUESTS))
            finished(child)
            for tag, digest in served(target.url).items():
                assert digest in (before[tag], after[tag])
            code, said = finished(promotion(side))
            assert code == 0, said
            before = after
            assert served(target.url) == after
        assert killed >= KILLS / 2, "some may have ended before"
