"""What skopeo makes of converted images, pulled from the server of a mirror."""

from __future__ import annotations

import json
import subprocess
import threading
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from flows.demo.sample_images import AMD64, ARM64, layer
from flows.maintenance.repair import refetch_damaged
from flows.reporting.status_tables import render_tags
from flows.reporting.tag_status import tag_statuses
from profiles.loader import parse_profile
from registry_server.http.server_process import running_server
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.maintenance.scrub import find_missing
from registry_server.store.store import Store
from tests.support.registries import running_registry
from tests.support.stored_files import file_of
from tests.tasks.runs import mirror, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor

NAME = "library/kinds"
LAYERS = [layer("base", 30_000), layer("top", 5_000)]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Descriptor]]]:
    """The url of an upstream with Docker images, and those by their tags."""
    with running_registry(tmp_path_factory.mktemp("upstream")) as registry:
        maker = registry.maker(NAME)
        made = {
            "image": maker.image(LAYERS, docker=True),
            "list": maker.multi_platform({AMD64: LAYERS, ARM64: LAYERS[:1]}, docker=True),
        }
        for tag, descriptor in made.items():
            maker.tag(descriptor, tag)
        yield registry.url, made


@pytest.fixture(scope="module")
def mirrored(
    originals: tuple[str, dict[str, Descriptor]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """`host:port/repository` of the mirror."""
    folder = tmp_path_factory.mktemp("mirror")
    with opened(folder, originals[0], {"prefix": NAME, "convert": "oci"}) as run:
        assert mirror(run).complete
    with running_server(folder / "store") as url:
        yield f"{url.partition('//')[2]}/{NAME}"


def run(skopeo: str, *arguments: str) -> bytes:
    return subprocess.run([skopeo, *arguments], check=True, capture_output=True, timeout=120).stdout


def inspected(skopeo: str, image: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        run(skopeo, "inspect", *options, "--tls-verify=false", f"docker://{image}")
    )
    return found


@pytest.mark.parametrize(
    ("tag", "media_type"), [("image", media_types.OCI_MANIFEST), ("list", media_types.OCI_INDEX)]
)
def test_skopeo_copies_it_as_oci_byte_for_byte(
    mirrored: str, skopeo: str, tmp_path: Path, tag: str, media_type: str
) -> None:
    raw = run(skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{mirrored}:{tag}")
    assert json.loads(raw)["mediaType"] == media_type
    source, target = f"docker://{mirrored}:{tag}", f"oci:{tmp_path / 'layout'}:1"
    run(skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", source, target)
    [entry] = json.loads((tmp_path / "layout/index.json").read_bytes())["manifests"]
    assert entry["digest"] == Digest.of(raw)


def test_the_config_is_what_it_was(
    mirrored: str, originals: tuple[str, dict[str, Descriptor]], skopeo: str
) -> None:
    upstream = f"{originals[0].partition('//')[2]}/{NAME}:image"
    options = ("--config", "--raw")
    assert inspected(skopeo, f"{mirrored}:image", *options) == inspected(skopeo, upstream, *options)
    assert inspected(skopeo, f"{mirrored}:image")["Layers"] == inspected(skopeo, upstream)["Layers"]


@pytest.mark.parametrize("tag", ["image", "list"])
def test_the_upstreams_digest_is_pulled_too(
    mirrored: str, originals: tuple[str, dict[str, Descriptor]], skopeo: str, tmp_path: Path, tag: str
) -> None:
    source = f"docker://{mirrored}@{originals[1][tag].digest}"
    run(skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", source, f"dir:{tmp_path}")
    assert Digest.of((tmp_path / "manifest.json").read_bytes()) == originals[1][tag].digest


def test_status_says_from_what_it_was_converted(
    originals: tuple[str, dict[str, Descriptor]], tmp_path: Path
) -> None:
    with opened(tmp_path, originals[0], {"prefix": NAME, "convert": "oci"}) as found:
        mirror(found)
    found_rows = list(tag_statuses(Store.open(tmp_path / "store")))
    assert {row.reference: row.converted_from for row in found_rows} == {
        tag: descriptor.digest for tag, descriptor in originals[1].items()
    }
    out = StringIO()
    Console(file=out, width=250).print(render_tags(found_rows, 0.0))
    assert f"converted from {originals[1]['image'].digest.short}" in out.getvalue()


def test_what_was_lost_of_a_converted_image_is_made_again(
    originals: tuple[str, dict[str, Descriptor]], tmp_path: Path
) -> None:
    rule = {"prefix": NAME, "convert": "oci", "platforms": ["linux/arm64"]}
    registry = {"name": "registry1", "urls": [originals[0]], "content": [rule]}
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [registry]}}
    profile = parse_profile(json.dumps(document), tmp_path / "profile.json").profile
    with opened(tmp_path, originals[0], rule) as found:
        mirror(found)
    store = Store.open(tmp_path / "store")
    repository = store.repository(RepositoryName(NAME))
    record = repository.tag(Tag("list"))
    assert record is not None
    index = json.loads(repository.read_manifest(record.digest)[1])
    child = Digest(index["manifests"][1]["digest"])
    for digest in (*record.roots, child):
        file_of(repository, digest).unlink()
    said: list[str] = []
    healed = refetch_damaged(store, profile, stop=threading.Event(), told=said.append)
    assert set(record.roots) <= set(healed), said
    assert repository.has_blob(child)
    assert list(find_missing(store)) == []
