"""Every kind of registry that images are pushed to in tests, from a folder to its url."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from tests.clients.conftest import optional_program
from tests.conftest import require_program
from tests.support.docker_registry import running_docker_registry
from tests.support.push_target import push_target
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@contextmanager
def our_own(folder: Path) -> Iterator[str]:
    with running_registry(folder, writable=True) as registry:
        yield registry.url


@contextmanager
def stand_in(_folder: Path) -> Iterator[str]:
    with push_target() as target:
        yield target.url


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Debian's, which is distribution 2.8. It deletes no tags."""
    program = require_program("docker-registry")
    with running_docker_registry(program, folder, root=folder / "root", deletes=True) as registry:
        yield registry.url


@contextmanager
def distribution_3(folder: Path) -> Iterator[str]:
    program = optional_program("registry", "distribution 3 calls itself so; the Go module proxy has it")
    with running_docker_registry(program, folder, root=folder / "root", deletes=True) as registry:
        yield registry.url


def zot_for_docker(folder: Path) -> AbstractContextManager[str]:
    return zot(folder, "docker2s2")


@contextmanager
def zot(folder: Path, *compatible: str) -> Iterator[str]:
    """Without `docker2s2` it refuses Docker's types."""
    program = optional_program("zot", "the Go module proxy has it")
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {
        "storage": {"rootDirectory": str(folder / "root")},
        "http": {"address": "127.0.0.1", "port": str(port), "compat": [*compatible]},
        "log": {"level": "error"},
    }
    config = folder / "zot.json"
    config.write_text(json.dumps(settings))
    child = subprocess.Popen(
        [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10), timeout=30) as client:
            client.get(f"http://127.0.0.1:{port}/v2/").raise_for_status()
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()
