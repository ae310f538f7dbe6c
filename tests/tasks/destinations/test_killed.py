"""A run into another registry that is killed at random moments, again and again, ends complete."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.digest import Digest
from tests.support.docker_registry import DockerRegistry, running_docker_registry
from tests.support_misbehaving import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("MIRRORFLOW_KILLS", "5"))
IMAGES, LAYERS = 8, 4
_STORED = re.compile(r'"PUT (/v2/\S+/blobs/uploads/\S+) HTTP/[\d.]+" 201')


def run(folder: Path, upstream: str, target: str, to: tuple[str, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tasks.destinations.killed", str(folder), upstream, target, *to],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def killed_after(child: subprocess.Popen[str], target: DockerRegistry, requests: int) -> bool:
    """Kill it once the registry has answered so many more requests; False where it ended before."""
    end = len(target.log.read_text().splitlines()) + requests
    while child.poll() is None:
        if len(target.log.read_text().splitlines()) >= end:
            child.kill()
            return True
        time.sleep(0.002)
    return False


def stored(registry: DockerRegistry) -> Counter[tuple[str, str]]:
    """How often each blob was completed in each repository, by the registry's own log."""
    found: Counter[tuple[str, str]] = Counter()
    for target in _STORED.findall(registry.log.read_text()):
        url = httpx.URL(target)
        repository = url.path.removeprefix("/v2/").partition("/blobs/")[0]
        found[repository, url.params["digest"]] += 1
    return found


@pytest.mark.parametrize("to", [("other",), ("store", "other")], ids=" and ".join)
def test_killed_runs_end_complete_and_send_no_stored_blob_again(
    tmp_path: Path, docker_registry: str, to: tuple[str, ...]
) -> None:
    chance = random.Random(20261130)  # noqa: S311 - moments, no secrets
    with (
        misbehaving() as upstream,
        running_docker_registry(docker_registry, tmp_path / "registry", root=tmp_path / "root") as target,
    ):
        for number in range(IMAGES):
            layers = tuple(chance.randbytes(400_000) for _ in range(LAYERS))
            upstream.add_image(f"team/app{number % 3}", f"v{number}", layers=layers)
        kills = 0
        for _ in range(KILLS):
            child = run(tmp_path, f"http://{upstream.host}", target.url, to)
            kills += killed_after(child, target, chance.randrange(1, 40))
            child.communicate()
        output, _ = run(tmp_path, f"http://{upstream.host}", target.url, to).communicate(timeout=120)
        print(f"{kills} of {KILLS} were killed; {sum(stored(target).values())} blobs were stored")
        assert output == f"{IMAGES} of {IMAGES} images\n" or output.endswith("nothing new\n")
        assert kills
        assert max(stored(target).values()) == 1
        for number in range(IMAGES):
            assert_served(target.url, f"team/app{number % 3}", f"v{number}")


def assert_served(url: str, repository: str, tag: str) -> None:
    """All of it, from the registry itself."""
    with httpx.Client(
        base_url=url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"}
    ) as client:
        manifest = client.get(f"/v2/{repository}/manifests/{tag}").raise_for_status().json()
        for blob in (manifest["config"], *manifest["layers"]):
            content = client.get(f"/v2/{repository}/blobs/{blob['digest']}").raise_for_status().content
            assert Digest.of(content) == blob["digest"]
