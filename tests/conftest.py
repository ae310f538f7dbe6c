"""Fixtures of all test folders."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from flows.demo.sample_upstream import fill_sample_upstream
from registry_server.store.store import Store
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry


# The cores are shared with servers that tests start: how long an example takes says nothing.
settings.register_profile("mirrorflow", deadline=None)
settings.load_profile("mirrorflow")


# What needs a Prefect server shares one with its neighbours, and so one worker: starting it costs more than
# most tests. Some groups, so that they run side by side.
ENGINE = {
    "documents": re.compile(r"tests/(flows/documents/|test_docs|test_notebooks)"),
    "commands": re.compile(r"tests/flows/(cli|destinations)/"),
    "engines": re.compile(r"tests/flows/(engines|orchestration|notify/test_prefect)"),
    "up": re.compile(r"tests/flows/supervisor/"),
}
# Real workers, hosts that are killed, races of hosts. `make soak` runs them; so does MIRRORFLOW_SLOW=1.
SLOW = (
    "tests/farm/",
    "tests/flows/engines/test_dask.py",
    "tests/flows/cli/test_shared_bucket.py",
    "tests/flows/orchestration/work_pools/test_cancelling.py",
    "tests/flows/orchestration/work_pools/test_crash_detection.py",
    "tests/flows/orchestration/work_pools/test_prefect_yaml.py",
    "tests/flows/orchestration/work_pools/test_profile_sources.py",
    "tests/flows/orchestration/work_pools/test_up_beside_workers.py",
    "tests/registry_server/store/gc/test_gc_hosts.py",
    "tests/several_servers/test_balanced.py",
    "tests/several_servers/test_receivers.py",
    "tests/several_servers/test_uploads.py",
    "tests/tasks/destinations/test_killed.py",
    "tests/tasks/stored/test_killed_sweeps.py",
)


# Of the tests over an S3 server those that prove most in a minute. The others run with MIRRORFLOW_SLOW=1.
OVER_S3 = (
    "tests/on_demand/test_object_storage.py",
    "tests/registry_server/conformance/test_blobs.py",
    "tests/registry_server/http/pull/test_object_storage.py",
    "tests/registry_server/store/gc/test_gc.py",
    "tests/registry_server/store/gc/test_gc_frame.py",
    "tests/registry_server/store/mirror_state/test_switch_during_lease.py",
    "tests/registry_server/store/objects/test_arriving_blobs.py",
    "tests/registry_server/store/objects/test_arriving_upload.py",
    "tests/registry_server/store/objects/test_object_storage.py",
    "tests/registry_server/store/objects/test_storage_driver.py",
    "tests/registry_server/store/objects/test_storage_trouble.py",
    "tests/registry_server/store/pool/",
    "tests/registry_server/store/spool/test_incoming.py",
    "tests/registry_server/store/test_remote_root.py",
    "tests/registry_server/store/test_run_memory.py",
    "tests/registry_server/store/test_writing.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("MIRRORFLOW_SLOW"):
        return
    for item in items:
        if item.nodeid.startswith(SLOW) or (_is_over_s3(item) and not item.nodeid.startswith(OVER_S3)):
            item.add_marker(pytest.mark.skip(reason="it takes minutes: `make soak`, or MIRRORFLOW_SLOW=1"))


def _is_over_s3(item: pytest.Item) -> bool:
    """By a parameter, or by the fixture of the server."""
    parameters = re.split(r"[-\[\]]", item.nodeid.partition("::")[2])
    fixtures = getattr(item, "fixturenames", ())
    return not {"s3", "bucket"}.isdisjoint((*parameters, *fixtures))


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """With several workers (`pytest -n`), a file stays together, as its fixtures are made once.

    xdist's own `loadgroup` silently does nothing with pytest 9.2: items cannot be renamed any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((name for name, paths in ENGINE.items() if paths.match(path)), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FilesTogether:
    return FilesTogether(config, log)


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


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the sample registry (flows/demo/sample_upstream.py), made once: not to be written to."""
    root = tmp_path_factory.mktemp("sample") / "store"
    fill_sample_upstream(Store.open(root, durability="none"))
    return root


@pytest.fixture
def sample_upstream(sample_root: Path, tmp_path: Path) -> Iterator[Registry]:
    """A running server over the sample registry, with a request log of its own."""
    with running_registry(tmp_path, root=sample_root) as found:
        yield found
