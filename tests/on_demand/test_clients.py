"""Real clients, a real upstream: skopeo pulls through the mirror from docker-registry."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from flows.demo.sample_images import AMD64, ARM64, ImageMaker, layer
from registry_server.http.server_process import running_server
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.on_demand.mirrors import document, mirroring
from tests.support.docker_registry import running_docker_registry
from tests.tasks.runs import assert_complete

if TYPE_CHECKING:
    from pathlib import Path


def _copy(skopeo: str, source: str, target: str, *options: str) -> None:
    subprocess.run(
        [skopeo, "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *options, source, target],
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_skopeo_pulls_cold_and_warm_and_each_blob_leaves_upstream_once(
    tmp_path: Path, skopeo: str, docker_registry: str
) -> None:
    filling = Store.open(tmp_path / "filling", durability="none")
    maker = ImageMaker(filling.repository(RepositoryName("library/nginx")))
    base = layer("base", 2_000_000)
    maker.tag(maker.image([base, layer("one", 300_000)], docker=True), "docker")
    maker.tag(maker.multi_platform({AMD64: [base, layer("amd", 90_000)], ARM64: [base]}), "1.25", "latest")
    with running_docker_registry(docker_registry, tmp_path / "up", root=tmp_path / "registry") as upstream:
        with running_server(filling.root) as url:
            host = url.partition("//")[2]
            for tag in ("docker", "1.25"):
                name = f"library/nginx:{tag}"
                _copy(skopeo, f"docker://{host}/{name}", f"docker://{upstream.host}/{name}", "--all")
        upstream.new_requests()
        with mirroring(tmp_path / "mirror", document(upstream.url, manifestCheckInterval="1h")) as mirror:

            def pull(number: int) -> str:
                target = tmp_path / f"pulled-{number}"
                tag = ("docker", "1.25")[number % 2]
                _copy(skopeo, f"docker://{mirror.host}/library/nginx:{tag}", f"dir:{target}")
                return str(json.loads((target / "manifest.json").read_text())["config"]["digest"])

            with ThreadPoolExecutor(6) as clients:
                assert len(set(clients.map(pull, range(6)))) == 2
            mirror.work.wait()
            blobs = [each.target for each in upstream.new_requests() if each.kind == "GET blobs"]
            assert len(blobs) == len(set(blobs))
            for tag in ("docker", "1.25"):
                assert_complete(mirror.store, f"library/nginx:{tag}")
            pull(10)
            pull(11)
            assert upstream.new_requests() == []
