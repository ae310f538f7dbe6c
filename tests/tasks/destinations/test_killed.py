"""A run into another registry that is killed at random moments, again and again, ends complete."""

from __future__ import annotations

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
from tests.support_misbehaving import Misbehaving, misbehaving

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 50
REPOSITORIES, LAYERS = 3, 4
MOST_REQUESTS = 25  # of the registry between two kills: a run for one image takes some 12, and HEADs for all
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


def grow(upstream: Misbehaving, chance: random.Random, count: int) -> None:
    """So many more images upstream."""
    for _ in range(count):
        number = sum(len(each.tags) for each in upstream.repositories.values())
        layers = tuple(chance.randbytes(400_000) for _ in range(LAYERS))
        upstream.add_image(f"team/app{number % REPOSITORIES}", f"v{number}", layers=layers)


@pytest.mark.parametrize("to", [("other",), ("store", "other")], ids=" and ".join)
def test_killed_runs_end_complete_and_send_no_stored_blob_again(
    tmp_path: Path, docker_registry: str, to: tuple[str, ...]
) -> None:
    """Where a run ends before it is killed, there are more images for the next one."""
    chance = random.Random(20261130)  # noqa: S311 - moments, no secrets
    with (
        misbehaving() as upstream,
        running_docker_registry(docker_registry, tmp_path / "registry", root=tmp_path / "root") as target,
    ):
        grow(upstream, chance, REPOSITORIES)
        kills = ended = 0
        while kills < KILLS:
            child = run(tmp_path, f"http://{upstream.host}", target.url, to)
            if killed_after(child, target, chance.randrange(1, MOST_REQUESTS)):
                kills += 1
            else:
                ended += 1
                assert child.returncode == 0, child.communicate()
                grow(upstream, chance, REPOSITORIES)
            child.communicate()
        child = run(tmp_path, f"http://{upstream.host}", target.url, to)
        output, _ = child.communicate(timeout=120)
        images = sum(len(each.tags) for each in upstream.repositories.values())
        blobs = stored(target)
        print(
            f"{kills} runs were killed, {ended} ended before; {images} images, {blobs.total()} blobs stored"
        )
        assert (child.returncode, "failed" in output) == (0, False), output
        assert max(blobs.values()) == 1
        for name, repository in upstream.repositories.items():
            for tag in repository.tags:
                assert_served(target.url, name, tag)


def assert_served(url: str, repository: str, tag: str) -> None:
    """All of it, from the registry itself."""
    with httpx.Client(
        base_url=url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"}
    ) as client:
        manifest = client.get(f"/v2/{repository}/manifests/{tag}").raise_for_status().json()
        for blob in (manifest["config"], *manifest["layers"]):
            content = client.get(f"/v2/{repository}/blobs/{blob['digest']}").raise_for_status().content
            assert Digest.of(content) == blob["digest"]
