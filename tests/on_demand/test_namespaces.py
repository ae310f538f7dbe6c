"""`?ns=`: containerd asks one mirror for many registries; only the profile says which there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from profiles.loader import parse_profile
from tasks.on_demand.routing import resolve
from tests.on_demand.mirrors import document, mirroring
from tests.support_misbehaving import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

HUB = {"urls": ["https://docker.io"], "onDemand": True, "content": [{"prefix": "library/*"}]}
OFFICIAL = {
    "urls": ["https://docker.io/library"],
    "onDemand": True,
    "content": [{"prefix": "**", "destination": "/docker-images"}],
}
QUAY = {
    "urls": ["https://quay.io", "https://mirror.example:8443"],
    "content": [{"prefix": "prometheus/*", "destination": "/quay"}],
}
ANY = {"urls": ["http://registry1:5000"], "onDemand": True}


@pytest.mark.parametrize(
    ("entry", "namespace", "name", "local"),
    [
        pytest.param(HUB, "docker.io", "library/alpine", "library/alpine", id="Docker Hub"),
        pytest.param(HUB, "registry-1.docker.io", "library/alpine", "library/alpine", id="its other name"),
        pytest.param(HUB, "docker.io", "other/alpine", None, id="no rule takes it"),
        pytest.param(OFFICIAL, "docker.io", "library/alpine", "docker-images/alpine", id="a path in the url"),
        pytest.param(OFFICIAL, "docker.io", "other/alpine", None, id="outside of that path"),
        pytest.param(QUAY, "quay.io", "prometheus/node", "quay/prometheus/node", id="polled only"),
        pytest.param(QUAY, "mirror.example:8443", "prometheus/node", "quay/prometheus/node", id="second url"),
        pytest.param(QUAY, "mirror.example", "prometheus/node", None, id="another port"),
        pytest.param(ANY, "registry1:5000", "a/b", "a/b", id="everything"),
        pytest.param(ANY, "169.254.169.254", "latest/meta-data", None, id="an address of the network"),
        pytest.param(ANY, "http://registry1:5000@evil.example", "a/b", None, id="a host behind a host"),
        pytest.param(ANY, "", "a/b", None, id="nothing"),
    ],
)
def test_a_namespace_is_a_key_into_the_profile(
    tmp_path: Path, entry: dict[str, Any], namespace: str, name: str, local: str | None
) -> None:
    text = json.dumps({"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}})
    sync = parse_profile(text, tmp_path / "profile.json").profile.sync
    assert resolve(sync, namespace, name) == local


def test_a_client_pulls_by_namespace(tmp_path: Path) -> None:
    with misbehaving() as upstream:
        image = upstream.add_image("library/nginx", "1.25", layers=(b"layer",))
        content = [{"prefix": "library/*", "destination": "/hub"}]
        with mirroring(tmp_path, document(f"http://{upstream.host}", content=content)) as mirror:
            query = {"ns": upstream.host}
            got = mirror.client.get("/v2/library/nginx/manifests/1.25", params=query)
            assert got.content == image.body
            assert got.headers["OCI-Namespace"] == upstream.host
            layer = f"/v2/library/nginx/blobs/{image.layers[0].digest}"
            assert mirror.client.get(layer, params=query).content == b"layer"
            assert mirror.client.get("/v2/hub/library/nginx/manifests/1.25").content == image.body
            mirror.work.wait()
            asked = len(upstream.seen)
            for namespace in ("127.0.0.1:22", "localhost", "a\r\nSet-Cookie: b", "x" * 1000):
                refused = mirror.client.get("/v2/library/nginx/manifests/1.25", params={"ns": namespace})
                assert refused.status_code == 404
                assert "OCI-Namespace" not in refused.headers
                assert "Set-Cookie" not in refused.headers
            assert len(upstream.seen) == asked
            mirror.stop_receiver()
            assert mirror.client.get(layer, params=query).status_code == 200
