"""What comes into a bundle, how it grows, and what remains of one that was interrupted."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from registry_server.bundles.create import BundleRequest, plan_bundle, write_bundle
from registry_server.bundles.errors import BundleUnwritable
from registry_server.bundles.inventory import Inventory, take_inventory
from registry_server.bundles.parts import BundleFolder
from registry_server.bundles.reading import Bundle
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreDamaged
from registry_server.store.layout.importer import import_images
from registry_server.store.store import Store
from tests.registry_server.bundles.making import CREATED, PROFILE, checked, create
from tests.registry_server.store.images import (
    check,
    image,
    index,
    layer,
    manifest,
    put_image,
    record,
    tag_image,
)
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.repository import Repository

APP = RepositoryName("team/app")
ONE_PERCENT = 20_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", durability="none")


@pytest.fixture
def app(store: Store) -> Repository:
    return store.repository(APP)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_bundle_of_one_part_is_an_image_layout_that_a_store_imports(
    store: Store, app: Repository, tmp_path: Path
) -> None:
    tag_image(app, "v1", b"layer")
    create(store, tmp_path / "bundle")
    assert names(tmp_path / "bundle") == ["SHA256SUMS", "bundle.json", "bundle.sigstore.json", "bundle.tar"]
    other = Store.open(tmp_path / "other", durability="none")
    assert [str(each) for each in import_images(other, tmp_path / "bundle/bundle.tar")] == ["team/app:v1"]
    assert check(other) == 1


def test_parts_are_equal_and_together_the_tar(store: Store, app: Repository, tmp_path: Path) -> None:
    tag_image(app, "v1", bytes(2_500_000))
    create(store, tmp_path / "whole")
    document = create(store, tmp_path / "parts", split=1 << 20)
    assert [(each.name, each.size) for each in document.parts[:2]] == [
        ("bundle.tar.001", 1 << 20),
        ("bundle.tar.002", 1 << 20),
    ]
    together = b"".join((tmp_path / "parts" / each.name).read_bytes() for each in document.parts)
    assert together == (tmp_path / "whole/bundle.tar").read_bytes()
    assert checked(tmp_path / "parts") == checked(tmp_path / "whole") == len(together)


def test_what_the_other_side_has_is_left_out_and_manifests_are_not(
    store: Store, app: Repository, tmp_path: Path
) -> None:
    tag_image(app, "v1", b"shared", b"old")
    held = take_inventory(store, CREATED)
    tag_image(app, "v2", b"shared", b"new")
    document = create(store, tmp_path / "bundle", inventory=held)
    assert [each.name for each in document.images] == ["team/app:v2"]
    assert {each.digest for each in document.contents} == {
        Digest.of(b"new"),
        image(b"shared", b"new").descriptor().digest,
    }
    assert document.base is not None
    assert (document.base.inventory, document.base.store) == (held.id, store.uuid)


def test_a_bundle_grows_with_what_is_new(store: Store, app: Repository, tmp_path: Path) -> None:
    """The project's measure: 1 % new content is 1 % of the bytes, plus manifests."""
    layers = [bytes([number]) * ONE_PERCENT for number in range(100)]
    for number, content in enumerate(layers):
        tag_image(app, f"v{number}", content)
    create(store, tmp_path / "all")
    held = take_inventory(store, CREATED)
    tag_image(app, "new", bytes([200]) * ONE_PERCENT)
    create(store, tmp_path / "more", inventory=held)
    whole, more = (
        sum(each.stat().st_size for each in (tmp_path / name).iterdir()) for name in ("all", "more")
    )
    assert whole > 100 * ONE_PERCENT
    assert more < ONE_PERCENT + 20_000  # one manifest, bundle.json, and a tar that ends at 10,240 bytes


def test_a_signature_that_came_later_goes_along_without_its_image(
    store: Store, app: Repository, tmp_path: Path
) -> None:
    signed = tag_image(app, "v1", b"layer")
    held = take_inventory(store, CREATED)
    for content in (b"{}", b"signature"):
        app.put_blob(layer(content), content)
    made = app.put_manifest(image(b"signature"))
    app.put_tag(Tag(f"sha256-{signed.digest.hex}.sig"), record(made))
    put_image(app, b"report")
    referrer = app.put_manifest(image(b"report", subject=signed.to_json(), artifactType="a/b"))
    document = create(store, tmp_path / "bundle", inventory=held)
    assert {each.tag for each in document.images} == {"v1", f"sha256-{signed.digest.hex}.sig"}
    assert document.referrers == {APP: (referrer.digest,)}
    assert Digest.of(b"layer") not in {each.digest for each in document.contents}


def test_what_was_refused_stays_here_until_something_of_it_changes(store: Store, app: Repository) -> None:
    tag_image(app, "v1", b"layer")
    empty = take_inventory(Store.open(store.root.parent / "far", durability="none"), CREATED)
    (first,) = plan_bundle(store, BundleRequest(PROFILE, empty), CREATED).document.images
    refused = Inventory(empty.store, CREATED, {}, frozenset(), {first.name: first.members})
    left = plan_bundle(store, BundleRequest(PROFILE, refused), CREATED).document
    assert (left.images, list(left.left_out)) == ((), ["team/app:v1"])
    again = plan_bundle(store, BundleRequest(PROFILE, refused, again=True), CREATED).document
    assert len(again.images) == 1
    app.put_blob(layer(b"signature"), b"signature")
    made = app.put_manifest(image(b"signature"))
    app.put_tag(Tag(f"sha256-{first.record.digest.hex}.sig"), record(made))
    signed = plan_bundle(store, BundleRequest(PROFILE, refused), CREATED).document
    assert "v1" in {each.tag for each in signed.images}


def test_the_last_report_of_each_registry_entry_goes_along(
    store: Store, app: Repository, tmp_path: Path
) -> None:
    tag_image(app, "v1", b"layer")
    for number in (1, 2):
        store.reports.save("hub", {"registry": "hub", "number": number})
    store.reports.save("hub", {"registry": "hub", "number": 3, "only": ["team/app:v1"]})
    document = create(store, tmp_path / "bundle")
    assert document.reports == ({"registry": "hub", "number": 2},)


def test_a_platform_that_is_not_here_is_left_out(store: Store, app: Repository, tmp_path: Path) -> None:
    here, absent = image(b"one"), image(b"two")
    put_image(app, b"one")
    listed = app.put_manifest(index(here, absent))
    app.put_tag(Tag("v1"), record(listed, absent.descriptor().digest))
    document = create(store, tmp_path / "bundle")
    assert {each.digest for each in document.contents if each.media_type} == {
        listed.digest,
        here.descriptor().digest,
    }
    assert checked(tmp_path / "bundle")


def test_an_inventory_lists_only_images_that_are_whole(store: Store, app: Repository) -> None:
    """Then the next bundle brings what is lost."""
    tag_image(app, "v1", b"lost")
    tag_image(app, "v2", b"kept")
    file_of(app, Digest.of(b"lost")).unlink()
    found = take_inventory(store, CREATED)
    assert list(found.images) == ["team/app:v2"]
    assert Digest.of(b"lost") not in found.contents


def test_an_image_that_is_not_whole_here_is_an_error_that_names_it(
    store: Store, app: Repository, tmp_path: Path
) -> None:
    tag_image(app, "v1", b"lost")
    file_of(app, Digest.of(b"lost")).unlink()
    with pytest.raises(BundleUnwritable, match="team/app:v1 is not whole in this store"):
        create(store, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_blob_that_is_damaged_here_is_never_in_a_finished_part(
    store: Store, app: Repository, tmp_path: Path
) -> None:
    tag_image(app, "v1", bytes(3_000_000))
    path = file_of(app, Digest.of(bytes(3_000_000)))
    path.chmod(0o600)
    path.write_bytes(bytes(2_999_999) + b"x")
    with pytest.raises(StoreDamaged, match="then the next 'bundle create' goes on"):
        create(store, tmp_path / "bundle", split=1 << 20)
    assert not (tmp_path / "bundle/bundle.json").exists()
    path.write_bytes(bytes(3_000_000))
    document = create(store, tmp_path / "bundle", split=1 << 20)
    assert checked(tmp_path / "bundle") == document.tar.size


def test_a_finished_bundle_is_not_written_over(store: Store, app: Repository, tmp_path: Path) -> None:
    tag_image(app, "v1", b"layer")
    create(store, tmp_path / "bundle")
    with pytest.raises(BundleUnwritable, match="holds a bundle already"):
        create(store, tmp_path / "bundle")


def test_one_process_at_a_time_writes_into_a_folder(store: Store, app: Repository, tmp_path: Path) -> None:
    tag_image(app, "v1", b"layer")
    target = BundleFolder(tmp_path / "bundle")
    with target.claim(), pytest.raises(BundleUnwritable, match="another process is making a bundle in"):
        create(store, tmp_path / "bundle")
    create(store, tmp_path / "bundle")


def test_what_was_collected_since_the_bundle_was_begun_is_named(
    store: Store, app: Repository, tmp_path: Path
) -> None:
    tag_image(app, "v1", b"layer")
    request = BundleRequest(PROFILE)
    plan = plan_bundle(store, request, CREATED)
    folder = BundleFolder(tmp_path / "bundle")
    folder.make()
    folder.put_plan(plan.encoded(request.identity(store)))
    app.delete_tag(Tag("v1"))
    app.delete_blob(Digest.of(b"layer"))
    with pytest.raises(BundleUnwritable, match="is not in the store any more: delete the unfinished bundle"):
        create(store, tmp_path / "bundle")


def test_a_signer_that_failed_costs_no_part(store: Store, app: Repository, tmp_path: Path) -> None:
    """Keyless signing asks the network, and comes last."""

    def fails(_document: object, _body: bytes) -> bytes:
        raise BundleUnwritable("the log is down")

    tag_image(app, "v1", b"layer")
    with pytest.raises(BundleUnwritable, match="the log is down"):
        write_bundle(store, tmp_path / "bundle", BundleRequest(PROFILE), CREATED, fails)
    before = (tmp_path / "bundle/bundle.tar").stat()
    create(store, tmp_path / "bundle")
    after = (tmp_path / "bundle/bundle.tar").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert "bundle.plan.json" not in names(tmp_path / "bundle")


def test_sha512_contents_are_carried(store: Store, app: Repository, tmp_path: Path) -> None:
    content = b"by its longer name"
    digest = Digest.of(content, "sha512")
    body = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": len(content)}
    app.put_blob(layer(b"{}"), b"{}")
    app.put_blob(type(layer(b""))("a/b", digest, len(content)), content)
    found = image()
    document = json.loads(found.body) | {"layers": [body]}
    made = app.put_manifest(manifest(document))
    app.put_tag(Tag("v1"), record(made))
    create(store, tmp_path / "bundle")
    assert checked(tmp_path / "bundle")
    with tarfile.open(tmp_path / "bundle/bundle.tar") as tar:
        assert f"blobs/sha512/{digest.hex}" in tar.getnames()
    with Bundle.open(tmp_path / "bundle") as bundle:
        assert bundle.small(digest, 100) == content


_MEMORY = """
import resource, sys
from pathlib import Path
from registry_server.store.store import Store
from tests.registry_server.bundles.making import checked, create
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
create(Store.open(Path(sys.argv[1])), Path(sys.argv[2]))
checked(Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_blobs(store: Store, app: Repository, tmp_path: Path) -> None:
    """A layer of 200 MB is written and verified with less than 40 MB more than before."""
    content = bytes(200_000_000)
    tag_image(app, "v1", content)
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, store.root, tmp_path / "bundle"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 40_000  # KiB
