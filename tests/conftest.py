"""Fixtures of all test folders."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registries import Registry


def require_program(name: str) -> str:
    """The path of a program that a test needs. Without it the test is skipped, but in CI it fails."""
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is not installed; Debian has it as a package, see .ci/run"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def skopeo() -> str:
    return require_program("skopeo")


@pytest.fixture(scope="session")
def docker_registry() -> str:
    return require_program("docker-registry")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A running bundled server over an empty store, shared by the tests of a module."""
    with running_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found
