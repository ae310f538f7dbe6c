"""Full disks, read-only roots, planted links: one clear error, nothing lost, neighbours left alone."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.errors import BlobUnknown, ManifestUnknown, MirrorflowError, RepositoryUnknown
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store import errors
from registry_server.store.errors import StoreDamaged, StoreError, StoreFull, StoreMissing, StoreUnwritable
from registry_server.store.records import PollRecord
from registry_server.store.store import Store
from tests.registry_server.store.images import check, image, layer, put_image, record, tag_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.store.repository import Repository

LAYER = b"layer"
MIB = 1 << 20


@contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    mount(*arguments)
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Permission bits do not stop root; a mount does."""
    with mounted("--bind", str(path), str(path)):
        mount("-o", "remount,bind,ro", str(path))
        yield


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Store]:
    """A store on a file system of 2 MiB."""
    root = tmp_path / "small"
    root.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(root)):
        yield Store.open(root)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Store]:
    """A read-only store that holds an image; root too cannot write to it."""
    root = tmp_path / "frozen"
    tag_image(Store.open(root).repository(RepositoryName("library/nginx")), "1", LAYER)
    with read_only(root):
        yield Store.open(root)


def test_a_full_disk_is_told_keeps_what_is_there_and_goes_on_when_there_is_space(small: Store) -> None:
    nginx = small.repository(RepositoryName("library/nginx"))
    tag_image(nginx, "1", LAYER)
    filler = small.root / "filler"
    filler.write_bytes(bytes(MIB))
    content = os.urandom(MIB + MIB // 2)
    with pytest.raises(StoreFull, match="free space"), nginx.receive_blob(layer(content)) as incoming:
        incoming.write(content)
    assert check(small) == 1
    filler.unlink()
    with nginx.receive_blob(layer(content)) as incoming:
        start = incoming.offset
        incoming.write(content[start:])
        incoming.commit()
    assert start > 0
    assert nginx.find_blob(layer(content).digest).path.read_bytes() == content


def fill_up(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass


def test_on_a_full_disk_every_small_write_says_so_and_the_old_tag_stays(small: Store) -> None:
    nginx = small.repository(RepositoryName("library/nginx"))
    old = tag_image(nginx, "1", LAYER)
    new = put_image(nginx, b"new")
    fill_up(small.root / "filler")
    for write in (
        lambda: nginx.put_blob(layer(b"more"), b"more"),
        lambda: nginx.put_manifest(image(b"more")),
        lambda: nginx.put_tag(Tag("1"), record(new)),
        lambda: nginx.put_poll(PollRecord("registry1", 1.0)),
        lambda: small.reports.save("registry1", {}),
    ):
        with pytest.raises(StoreFull):
            write()
    assert nginx.find_manifest(Tag("1")).descriptor.digest == old.digest
    assert list((small.root / "staging").iterdir()) == []
    assert check(small) == 1


LIMITED = """
import resource, signal, sys
from pathlib import Path
from registry_server.oci.reference import RepositoryName
from registry_server.store.errors import StoreFull
from registry_server.store.store import Store
from tests.registry_server.store.images import layer
content = bytes(200_000)
repository = Store.open(Path(sys.argv[1])).repository(RepositoryName("a"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with repository.receive_blob(layer(content)) as incoming:
        incoming.write(content)
except StoreFull as error:
    print(error)
"""


def test_a_limit_on_the_size_of_files_is_a_full_store(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    here = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    assert "the store is full" in done.stdout
    with Store.open(tmp_path).repository(RepositoryName("a")).receive_blob(layer(bytes(200_000))) as incoming:
        assert incoming.offset == 100_000


def test_a_read_only_store_is_read(frozen: Store) -> None:
    nginx = frozen.repository(RepositoryName("library/nginx"))
    assert nginx.tags() == ["1"]
    assert nginx.read_manifest(Tag("1"))[1] == image(LAYER).body
    assert check(frozen) == 1


def test_a_read_only_store_says_so_on_every_write(frozen: Store) -> None:
    nginx = frozen.repository(RepositoryName("library/nginx"))
    other = frozen.repository(RepositoryName("library/other"))
    old = nginx.tag(Tag("1"))
    assert old is not None

    def receive() -> None:
        with other.receive_blob(layer(b"more")):
            pass

    def claim() -> None:
        with frozen.claim("up"):
            pass

    writes: list[Callable[[], object]] = [
        receive,
        claim,
        lambda: other.adopt_blob(layer(LAYER).digest),
        lambda: nginx.put_blob(layer(b"more"), b"more"),
        lambda: nginx.put_manifest(image(b"more")),
        lambda: nginx.put_tag(Tag("2"), old),
        lambda: nginx.delete_tag(Tag("1")),
        lambda: nginx.put_poll(PollRecord("registry1", 1.0)),
        lambda: frozen.reports.save("registry1", {}),
    ]
    for write in writes:
        with pytest.raises(StoreUnwritable, match="Read-only file system"):
            write()
    # What is there already needs no writing.
    assert nginx.adopt_blob(layer(LAYER).digest)
    assert nginx.put_manifest(image(LAYER)).digest == old.digest


def test_a_new_store_on_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(StoreUnwritable):
        Store.open(tmp_path / "store")


# Planted links (oras CVE-2026-50163): they lead nowhere, and their neighbours stay.


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


def test_a_link_in_the_pool_is_no_content_and_is_replaced(nginx: Repository, secret: Path) -> None:
    nginx.put_blob(layer(LAYER), LAYER)
    path = nginx.find_blob(layer(LAYER).digest).path
    path.unlink()
    path.symlink_to(secret)
    assert not nginx.has_blob(layer(LAYER).digest)
    with pytest.raises((BlobUnknown, RepositoryUnknown)):
        nginx.find_blob(layer(LAYER).digest)
    nginx.put_blob(layer(LAYER), LAYER)
    assert path.read_bytes() == LAYER
    assert secret.read_bytes() == b"secret"


def test_a_link_in_the_place_of_a_manifest_is_not_read(nginx: Repository, secret: Path) -> None:
    tag_image(nginx, "1", LAYER)
    path = nginx.find_manifest(Tag("1")).path
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(ManifestUnknown):
        nginx.read_manifest(Tag("1"))


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "dangling"])
def test_what_is_planted_among_incoming_blobs_is_not_written_to(
    store: Store, nginx: Repository, secret: Path, kind: str
) -> None:
    path = store.root / "incoming" / layer(LAYER).digest.replace(":", "-")
    if kind == "symlink":
        path.symlink_to(secret)
    elif kind == "hard link":
        path.hardlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(secret.with_name("made by the attacker"))
    with nginx.receive_blob(layer(LAYER)) as incoming:
        assert incoming.offset == 0
        incoming.write(LAYER)
        incoming.commit()
    assert nginx.find_blob(layer(LAYER).digest).path.read_bytes() == LAYER
    assert secret.read_bytes() == b"secret"
    assert sorted(each.name for each in secret.parent.iterdir()) == ["secret", "store"]


def test_a_folder_among_incoming_blobs_is_told(store: Store, nginx: Repository) -> None:
    (store.root / "incoming" / layer(LAYER).digest.replace(":", "-")).mkdir()
    with pytest.raises(StoreDamaged, match="remove that file"), nginx.receive_blob(layer(LAYER)):
        pass


def test_a_link_among_tags_is_no_tag_and_is_replaced(store: Store, nginx: Repository, secret: Path) -> None:
    tag_image(nginx, "good", LAYER)
    folder = store.root / "repos/library/nginx/_r/tags"
    (folder / "bad").symlink_to(folder / "good")
    (folder / "folder").mkdir()
    assert nginx.tag(Tag("bad")) is None
    assert list(nginx.tag_records()) == ["good"]
    with pytest.raises(ManifestUnknown):
        nginx.find_manifest(Tag("bad"))
    tag_image(nginx, "bad", b"other")
    assert not (folder / "bad").is_symlink()
    assert nginx.find_manifest(Tag("good")).descriptor.digest == image(LAYER).descriptor().digest


@pytest.mark.parametrize("folder", ["tags", "referrers"])
def test_a_link_in_the_place_of_a_folder_is_empty(
    store: Store, nginx: Repository, other: Repository, folder: str
) -> None:
    tag_image(other, "1", LAYER)
    other.put_manifest(image(subject=image(LAYER).descriptor().to_json()))
    put_image(nginx, LAYER)
    nginx.put_manifest(image(subject=image(LAYER).descriptor().to_json()))
    there = store.root / "repos/library/other/_r" / folder
    here = store.root / "repos/library/nginx/_r" / folder
    if here.exists():
        here.rename(here.with_name("away"))
    here.symlink_to(there)
    assert nginx.tags() == []
    assert nginx.tag_records() == {}


def test_a_planted_marker_is_no_right(
    store: Store, nginx: Repository, other: Repository, secret: Path
) -> None:
    nginx.put_blob(layer(LAYER), LAYER)
    put_image(other)
    marker = store.root / "repos/library/other/_r/blobs" / layer(LAYER).digest.replace(":", "-")
    marker.symlink_to(secret)
    assert not other.has_blob(layer(LAYER).digest)
    assert other.adopt_blob(layer(LAYER).digest)
    assert not marker.is_symlink()


def test_a_link_to_a_folder_among_repositories_is_not_followed(store: Store, nginx: Repository) -> None:
    put_image(nginx)
    (store.root / "repos" / "loop").symlink_to(store.root / "repos")
    assert store.repositories() == ["library/nginx"]


# The border.


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EFBIG, StoreFull),
        (errno.EROFS, StoreUnwritable),
        (errno.EACCES, StoreUnwritable),
        (errno.EPERM, StoreUnwritable),
        (errno.ENOENT, StoreMissing),
        (errno.EIO, StoreDamaged),
        (errno.ELOOP, StoreDamaged),
        (errno.ENOTDIR, StoreDamaged),
        (errno.EMFILE, StoreError),
    ],
)
def test_errors_of_the_system_become_ours_and_name_the_file(code: int, kind: type[MirrorflowError]) -> None:
    @errors.translated
    def fail() -> None:
        raise OSError(code, os.strerror(code), "/store/file")

    with pytest.raises(kind, match=f"/store/file: {os.strerror(code)}") as caught:
        fail()
    assert type(caught.value) is kind


def test_other_errors_pass_the_border() -> None:
    @errors.translated
    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fail()


def test_descriptors_of_files_are_not_leaked(store: Store, nginx: Repository) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    tag_image(nginx, "1", LAYER)
    for _ in range(3):
        with nginx.receive_blob(layer(b"part")) as incoming:
            incoming.write(b"p")
        with pytest.raises(MirrorflowError), nginx.receive_blob(layer(b"long")) as incoming:
            incoming.write(b"longer")
        nginx.tags()
        nginx.tag_records()
        store.repositories()
        with store.claim("up"), pytest.raises(StoreError), store.claim("up"):
            pass
    assert open_files() == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > before
