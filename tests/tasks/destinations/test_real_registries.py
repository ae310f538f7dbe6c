"""Runs into real registries, and what real clients say of the result."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.companion_tags import fallback_tag
from tests.clients.conftest import optional_program
from tests.conftest import require_program
from tests.support.push_registries import distribution_3, docker_registry, our_own, zot, zot_for_docker
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.destinations.syncing import LAYER, sync_to
from tests.tasks.runs import add_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor

APP = "team/app"


@pytest.fixture(
    params=[
        pytest.param(our_own, id="our own server"),
        pytest.param(docker_registry, id="docker-registry 2.8"),
        pytest.param(distribution_3, id="distribution 3"),
        pytest.param(zot_for_docker, id="zot"),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with request.param(tmp_path / "registry") as found:
        yield found


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    """An index of two platforms in Docker's types, and an image with an SBOM that refers to it."""
    with misbehaving() as found:
        children = [
            {**_docker_image(found, name).to_json(), "platform": {"os": "linux", "architecture": name}}
            for name in ("amd64", "arm64")
        ]
        add_document(found, APP, "1", media_types.DOCKER_LIST, manifests=children)
        image = found.add_image(APP, "2", layers=(LAYER, b"two")).manifest
        sbom = add_document(
            found,
            APP,
            "sbom",
            media_types.OCI_MANIFEST,
            artifactType="application/spdx+json",
            config=found.add_blob(APP, b"{}", "application/vnd.oci.empty.v1+json").to_json(),
            layers=[found.add_blob(APP, b"sbom", "application/spdx+json").to_json()],
            subject=image.to_json(),
        )
        entry = {**sbom.to_json(), "artifactType": "application/spdx+json"}
        add_document(found, APP, fallback_tag(image.digest), media_types.OCI_INDEX, manifests=[entry])
        yield found


def _docker_image(upstream: Misbehaving, name: str) -> Descriptor:
    config = json.dumps({"os": "linux", "architecture": name, "rootfs": {"type": "layers", "diff_ids": []}})
    layer = upstream.add_blob(APP, LAYER + name.encode(), "application/vnd.docker.image.rootfs.diff.tar.gzip")
    return add_document(
        upstream,
        APP,
        f"of-{name}",
        "application/vnd.docker.distribution.manifest.v2+json",
        config=upstream.add_blob(
            APP, config.encode(), "application/vnd.docker.container.image.v1+json"
        ).to_json(),
        layers=[layer.to_json()],
    )


RULE = {"prefix": APP, "tags": {"regex": "1|2"}}


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("to", [("other",), ("store", "other")], ids=" and ".join)
def test_a_real_client_finds_the_same_images(
    tmp_path: Path, upstream: Misbehaving, url: str, to: tuple[str, ...]
) -> None:
    skopeo = require_program("skopeo")
    keys = {"prefix": "mirror"}
    assert sync_to(tmp_path, upstream, url, RULE, to=to, destination=keys).message == "2 of 2 images"
    host = url.partition("//")[2]
    for tag in ("1", "2"):
        raw = output(skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{host}/mirror/{APP}:{tag}")
        assert raw.encode() == upstream.repositories[APP].manifests[tag][1]
        image = f"docker://{host}/mirror/{APP}:{tag}"
        copied = f"dir:{tmp_path}/copy-{tag}"  # it checks every digest
        output(skopeo, "copy", "--all", "--src-tls-verify=false", "--preserve-digests", image, copied)
    assert sync_to(tmp_path, upstream, url, RULE, to=to, destination=keys).unchanged == 2


def test_a_real_client_finds_the_referrers(tmp_path: Path, upstream: Misbehaving, url: str) -> None:
    """By the API where there is one, else by the list under the fallback tag."""
    regctl = optional_program("regctl", "it comes with regclient")
    sync_to(tmp_path, upstream, url, RULE)
    host = url.partition("//")[2]
    settings = tmp_path / "regctl.json"
    settings.write_text(json.dumps({"hosts": {host: {"tls": "disabled", "hostname": host}}}))
    done = subprocess.run(
        [regctl, "artifact", "list", f"{host}/{APP}:2", "--format", "raw-body"],
        env={**os.environ, "REGCTL_CONFIG": str(settings)},
        capture_output=True,
        text=True,
        check=True,
    )
    listed: dict[str, Any] = json.loads(done.stdout)
    assert [each["artifactType"] for each in listed["manifests"]] == ["application/spdx+json"]


@pytest.mark.parametrize("convert", [None, "oci"])
def test_a_registry_that_takes_no_docker_manifests_gets_converted_ones(
    tmp_path: Path, upstream: Misbehaving, convert: str | None
) -> None:
    rule = {**RULE, "convert": convert} if convert else RULE
    with zot(tmp_path / "registry") as url:
        report = sync_to(tmp_path, upstream, url, rule)
        assert report.complete is bool(convert)
        if convert:
            host = url.partition("//")[2]
            raw = output("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/{APP}:1")
            assert json.loads(raw)["mediaType"] == media_types.OCI_INDEX
            assert sync_to(tmp_path, upstream, url, rule).unchanged == 2
        else:
            assert "415 Unsupported Media Type" in report.images[0].reason
            assert "write `convert: oci`" in report.images[0].reason
