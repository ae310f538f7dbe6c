"""Programs that are used where they are (.ci/run installs them, nobody has to), and an upstream."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support_misbehaving import Misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator


def optional_program(name: str, origin: str = "Debian has it as a package, see .ci/run") -> str:
    """Its path. Without it the test is skipped, in CI too."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed; {origin}")
    return path


@pytest.fixture(scope="session")
def root() -> None:
    """Only root may mount, which unpacking an image needs."""
    if os.geteuid() != 0:
        pytest.skip("containerd, podman and namespaces need root here")


@pytest.fixture(scope="session")
def podman(root: None) -> str:
    return optional_program("podman")


@pytest.fixture(scope="session")
def containerd(root: None) -> tuple[str, str]:
    """The daemon and its tool."""
    return optional_program("containerd"), optional_program("ctr")


@pytest.fixture(scope="session")
def buildkit(root: None) -> tuple[str, str]:
    """The daemon and its tool."""
    origin = "Debian does not have it; its own releases do"
    return optional_program("buildkitd", origin), optional_program("buildctl", origin)


@pytest.fixture(scope="session")
def own_world(root: None) -> tuple[str, ...]:
    """A command that runs another one with mounts and a network of its own, and ends it with itself."""
    command = (optional_program("unshare"), "--mount", "--net", "--kill-child", "--fork")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no namespaces can be made here: {tried.stderr.strip()}")
    return command


@pytest.fixture
def sick() -> Iterator[Misbehaving]:
    with Misbehaving() as upstream:
        upstream.add_image("library/app", "1.0", (b"layer",))
        yield upstream
