"""OCI image layouts: what is exported, others read; what others write, is imported; nothing is believed."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.errors import ContentError, DigestMismatch, ManifestUnknown, SizeMismatch
from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store.errors import StoreDamaged
from registry_server.store.layout.exporter import export_images
from registry_server.store.layout.importer import LayoutInvalid, import_images
from registry_server.store.store import Store
from tests.registry_server.store.images import check, image, index, layer, put_image, record, tag_image
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.digest import Digest
    from registry_server.store.repository import Repository

A, B = b"layer a" * 1000, b"layer b"


@pytest.fixture(params=["folder", "layout.tar"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


@pytest.fixture
def fresh(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "fresh", durability="none")


def names(*texts: str) -> list[ImageName]:
    return [ImageName.parse(text) for text in texts]


def test_what_is_exported_comes_back_the_same(
    store: Store, fresh: Store, nginx: Repository, other: Repository, target: Path
) -> None:
    first = tag_image(nginx, "1", A)
    put_image(other, A, B)
    both = other.put_manifest(index(image(A, B), image(B, B)))  # one of the platforms was left out
    left_out = image(B, B).descriptor().digest
    other.put_tag(Tag("all"), record(both, left_out))
    size = export_images(store, names("library/nginx:1", "library/other:all"), target)
    assert size > len(A) + len(B)
    assert import_images(fresh, target) == names("library/nginx:1", "library/other:all")
    assert fresh.repository(nginx.name).read_manifest(Tag("1")) == nginx.read_manifest(Tag("1"))
    assert fresh.repository(nginx.name).find_manifest(first.digest).descriptor.digest == first.digest
    back = fresh.repository(other.name).tag(Tag("all"))
    assert back is not None
    assert back.sparse == (left_out,)
    assert back.origin is None
    assert not fresh.repository(nginx.name).has_blob(layer(B).digest)


def test_an_image_without_a_tag_travels_under_its_digest(
    store: Store, fresh: Store, nginx: Repository, target: Path
) -> None:
    untagged = put_image(nginx, A)
    export_images(store, names(f"library/nginx@{untagged.digest}"), target)
    with pytest.raises(LayoutInvalid, match="with --repository"):
        import_images(fresh, target)
    assert import_images(fresh, target, RepositoryName("else/where")) == names(
        f"else/where@{untagged.digest}"
    )
    assert fresh.repository(RepositoryName("else/where")).has_blob(layer(A).digest)


def test_a_folder_that_is_a_layout_gets_images_in_addition(
    store: Store, nginx: Repository, tmp_path: Path
) -> None:
    tag_image(nginx, "1", A)
    tag_image(nginx, "2", B)
    for name in ("1", "2", "1"):
        export_images(store, names(f"library/nginx:{name}"), tmp_path / "layout")
    document = json.loads((tmp_path / "layout/index.json").read_text())
    assert [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in document["manifests"]] == [
        "library/nginx:1",
        "library/nginx:2",
    ]


def test_the_same_images_make_the_same_tar_file(store: Store, nginx: Repository, tmp_path: Path) -> None:
    tag_image(nginx, "1", A, B)
    for name in ("a.tar", "b.tar"):
        export_images(store, names("library/nginx:1"), tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_an_export_that_fails_leaves_no_file_that_looks_whole(
    store: Store, nginx: Repository, target: Path
) -> None:
    tag_image(nginx, "1", A)
    with pytest.raises(ManifestUnknown):
        export_images(store, names("library/nginx:nope"), target)
    path = file_of(nginx, layer(A).digest)
    path.chmod(0o644)
    path.write_bytes(A[::-1])
    with pytest.raises(StoreDamaged, match="mirrorflow store scrub"):
        export_images(store, names("library/nginx:1"), target)
    assert not target.is_file()
    assert not (target / "index.json").exists()
    assert [each for each in target.parent.iterdir() if each.name.startswith(".")] == []


def layout(folder: Path, *, drop: str = "", change: dict[str, bytes] | None = None) -> Path:
    """A layout with one image, written by hand."""
    manifest = image(B, config=b"{}")
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        f"blobs/sha256/{manifest.descriptor().digest.hex}": manifest.body,
        f"blobs/sha256/{layer(B).digest.hex}": B,
        f"blobs/sha256/{layer(b'{}').digest.hex}": b"{}",
    }
    entry: dict[str, Any] = manifest.descriptor().to_json()
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1.25"}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    for name, content in (files | (change or {})).items():
        if name != drop:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder


LAYER = f"blobs/sha256/{layer(B).digest.hex}"


@pytest.mark.parametrize(
    ("drop", "change", "error"),
    [
        pytest.param("index.json", {}, LayoutInvalid, id="no-index"),
        pytest.param(LAYER, {}, LayoutInvalid, id="a-layer-is-missing"),
        pytest.param("", {LAYER: B[::-1]}, DigestMismatch, id="other-bytes"),
        pytest.param("", {LAYER: B + b"!"}, SizeMismatch, id="too-long"),
        pytest.param("", {LAYER: B[:-1]}, SizeMismatch, id="too-short"),
        pytest.param("", {"index.json": b"{"}, ContentError, id="not-json"),
        pytest.param("", {"index.json": b'{"schemaVersion":2,"manifests":[]}'}, LayoutInvalid, id="empty"),
        pytest.param(
            "",
            {f"blobs/sha256/{image(B, config=b'{}').descriptor().digest.hex}": image(A).body},
            ContentError,
            id="another-manifest",
        ),
    ],
)
def test_a_layout_that_is_not_what_it_says_leaves_no_tag(
    fresh: Store, tmp_path: Path, drop: str, change: dict[str, bytes], error: type[Exception]
) -> None:
    source = layout(tmp_path / "layout", drop=drop, change=change)
    with pytest.raises(error):
        import_images(fresh, source, RepositoryName("a"))
    assert fresh.repository(RepositoryName("a")).tag_records() == {}


def test_links_in_a_layout_lead_nowhere(fresh: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(B)
    source = layout(tmp_path / "layout", drop=LAYER)
    (source / LAYER).symlink_to(secret)
    with pytest.raises(LayoutInvalid, match="lacks"):
        import_images(fresh, source, RepositoryName("a"))
    with tarfile.open(tmp_path / "layout.tar", "w") as tar:
        for path in sorted(layout(tmp_path / "whole").rglob("*")):
            member = tarfile.TarInfo(str(path.relative_to(tmp_path / "whole")))
            if path.is_file() and member.name != LAYER:
                member.size = path.stat().st_size
                tar.addfile(member, io.BytesIO(path.read_bytes()))
        member = tarfile.TarInfo(LAYER)
        member.type, member.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(member)
    with pytest.raises(LayoutInvalid, match="lacks"):
        import_images(fresh, tmp_path / "layout.tar", RepositoryName("a"))


def test_something_else_is_refused_with_a_word(fresh: Store, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(LayoutInvalid, match="neither a folder nor a tar file"):
        import_images(fresh, tmp_path / "text")


# What nobody here wrote.


def skopeo(*arguments: str) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def real_image(repository: Repository) -> Digest:
    """skopeo looks into configs: one that says what it is."""
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    descriptor = put_image(repository, A, config=config)
    repository.put_tag(Tag("1"), record(descriptor))
    return descriptor.digest


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_skopeo_reads_what_we_write_and_we_read_what_skopeo_writes(
    store: Store, fresh: Store, nginx: Repository, tmp_path: Path, kind: str
) -> None:
    digest = real_image(nginx)
    ours = tmp_path / ("ours.tar" if kind == "oci-archive" else "ours")
    theirs = tmp_path / ("theirs.tar" if kind == "oci-archive" else "theirs")
    export_images(store, names("library/nginx:1"), ours)
    skopeo("copy", "--preserve-digests", f"{kind}:{ours}:library/nginx:1", f"{kind}:{theirs}:other/name:2")
    assert import_images(fresh, theirs) == names("other/name:2")
    found = fresh.repository(RepositoryName("other/name"))
    assert found.find_manifest(Tag("2")).descriptor.digest == digest
    assert file_of(found, layer(A).digest).read_bytes() == A
    assert check(fresh) == 1
