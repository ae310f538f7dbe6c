"""Full disks and read-only roots: one clear error, and nothing lost."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store import errors
from registry_server.store.errors import StoreDamaged, StoreError, StoreFull, StoreMissing, StoreUnwritable
from registry_server.store.records import PollRecord
from registry_server.store.store import Store
from tests.registry_server.store.filesystem.disks import fill_up, mounted, read_only
from tests.registry_server.store.images import FOLDER_ONLY, check, image, layer, put_image, record, tag_image
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_server.store.repository import Repository

LAYER = b"layer"
MIB = 1 << 20


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
    assert file_of(nginx, layer(content).digest).read_bytes() == content


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
    here = Path(__file__).resolve().parents[4]
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


@FOLDER_ONLY
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
