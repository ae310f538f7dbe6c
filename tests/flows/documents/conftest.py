"""One mirror with a history, of the sample registry, for all documents and notebooks."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_images import ImageMaker, layer
from flows.demo.sample_upstream import fill_sample_upstream
from profiles.examples.shipped import shipped_profile
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.support.registries import running_registry
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

REGISTRY = "sample"


@dataclass(frozen=True)
class Mirror:
    """A folder with `demo.yaml`, its `store`, and the `upstream` that it mirrors."""

    folder: Path
    port: int
    environment: dict[str, str]

    @property
    def profile(self) -> Path:
        return self.folder / "demo.yaml"

    @property
    def store(self) -> Store:
        return Store.open(self.folder / "store", create=False)

    @property
    def upstream(self) -> Store:
        return Store.open(self.folder / "upstream", durability="none")

    @contextmanager
    def upstream_running(self) -> Iterator[str]:
        """Its URL is the same each time; otherwise it refuses connections."""
        with running_registry(self.folder / "log", root=self.folder / "upstream", port=self.port) as found:
            yield found.url

    def sync(self, *only: str) -> str:
        """Mirror in this process; returns the message of the run's state."""
        from flows.mirror_registry import mirror_registry

        state = mirror_registry(str(self.profile), REGISTRY, list(only) or None, return_state=True)
        return state.message or ""


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> Mirror:
    """Its runs: some images; none, because the upstream was away; all but one, that it lost; all."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "log").mkdir()
    with running_registry(folder / "log", root=folder / "upstream") as found:
        port = int(found.url.rpartition(":")[2])
    mirror = Mirror(folder, port, _environment(folder, prefect_url))
    fill_sample_upstream(mirror.upstream)
    _imitate_quay(mirror.upstream)
    profile = shipped_profile("demo").read_text().replace("5900", str(port)).replace("5901", "0")
    mirror.profile.write_text(
        profile.replace("maxRetries: 2", "maxRetries: 0").replace("pollInterval: 5m", "pollInterval: 12h")
    )
    _make_history(mirror)
    return mirror


def _make_history(mirror: Mirror) -> None:
    with mirror.upstream_running():
        assert mirror.sync("charts/web", "library/nginx") == "8 of 8 images"
    assert "connection refused" in mirror.sync("tools/builder")
    with mirror.upstream_running(), _a_lost_blob(mirror.upstream, "apps/web", "v2.0.0"):
        assert "failed" in mirror.sync()
    with mirror.upstream_running():
        assert mirror.sync().startswith("38 of 38 images")


@contextmanager
def _a_lost_blob(store: Store, repository: str, tag: str) -> Iterator[None]:
    found = store.repository(RepositoryName(repository))
    _, body = found.read_manifest(Tag(tag))
    path = file_of(found, parse_manifest(body).layers[-1].digest)
    content, mode = path.read_bytes(), path.stat().st_mode
    path.unlink()
    try:
        yield
    finally:
        path.write_bytes(content)
        path.chmod(mode)


def _imitate_quay(store: Store) -> None:
    """The repository that the README mirrors, with images of ours."""
    maker = ImageMaker(store.repository(RepositoryName("prometheus/prometheus")))
    for number, tag in enumerate(("v2.48.0", "v2.53.2", "v3.0.0", "latest")):
        maker.tag(maker.image([layer(f"prometheus-{number}", 20_000)]), tag)


def _environment(folder: Path, prefect_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}",
        "HOME": str(folder),
        "COLUMNS": "120",
        "PREFECT_API_URL": prefect_url,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "MIRRORFLOW_PROFILE": str(folder / "demo.yaml"),
    }
