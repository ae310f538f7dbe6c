"""Mounts as kernels show them, and what each means for a store that hosts share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from registry_server.http.server_options import ServerOptions
from registry_server.store.filesystem.mountinfo import Mount, mount_of, parse_mountinfo
from registry_server.store.filesystem.shared_filesystem import (
    effective_durability,
    is_shared_kind,
    mounted_on,
    sharing_problem,
)
from registry_server.store.gc.collector import Care, collect
from registry_server.store.store import Store
from tests.support.mounts import run_as_if_mounted

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.filesystem.shared_filesystem import SharedFileSystem

_NFS = "129 61 0:51 / /srv rw,relatime shared:73 - nfs4 files.example:/export rw,vers=4.2,rsize=1048576,"
_NFS += "wsize=1048576,namlen=255,{times}hard,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.0.0.2,"
_NFS += "{lookup}local_lock=none,addr=10.0.0.1"
ZEROS = "acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,"
NFS = _NFS.format(times="", lookup="")
NFS_NO_TIMES = _NFS.format(times=ZEROS, lookup="")
NFS_SOME_TIMES = _NFS.format(times="acregmin=0,acregmax=0,", lookup="lookupcache=none,")
NFS_UNCACHED = _NFS.format(times=ZEROS, lookup="lookupcache=none,")
NFS_NOAC = _NFS.format(times="noac,", lookup="lookupcache=none,")
NFS3_NOLOCK = (
    "88 27 0:45 / /srv rw,relatime shared:2 - nfs files.example:/export rw,vers=3,rsize=524288,wsize=524288,"
    f"namlen=255,{ZEROS}hard,nolock,proto=tcp,timeo=600,retrans=2,sec=sys,mountaddr=10.0.0.1,mountvers=3,"
    "mountport=20048,mountproto=udp,lookupcache=none,local_lock=all,addr=10.0.0.1"
)
GLUSTER = (
    "131 61 0:53 / /srv rw,relatime shared:75 - fuse.glusterfs gluster1:/vol0 "
    "rw,user_id=0,group_id=0,default_permissions,allow_other,max_read=131072"
)
_CIFS = "140 61 0:60 / /srv rw,relatime shared:80 - cifs //files.example/share rw,vers=3.1.1,cache={cache},"
_CIFS += "username=mirror,uid=0,noforceuid,gid=0,noforcegid,addr=10.0.0.1,file_mode=0755,dir_mode=0755,soft,"
_CIFS += "nounix,serverino,mapposix,{locks}rsize=4194304,bsize=1048576,echo_interval=60,actimeo={times}"
CIFS = _CIFS.format(cache="strict", times=1, locks="")
CIFS_UNCACHED = _CIFS.format(cache="none", times=0, locks="")
CIFS_NOBRL = _CIFS.format(cache="none", times=0, locks="nobrl,")
EXT4 = "25 1 8:1 / /srv rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro"
XFS = "26 1 8:2 / /srv rw,relatime shared:1 - xfs /dev/sdb1 rw,attr2,inode64,logbufs=8,logbsize=32k,noquota"
BTRFS = "27 1 0:23 /@srv /srv rw,relatime shared:1 - btrfs /dev/sda2 rw,ssd,subvolid=258,subvol=/@srv"
OVERLAY = (
    "700 650 0:99 / /srv rw,relatime master:200 - overlay overlay rw,lowerdir=/v/l/A:/v/l/B,upperdir=/v/d,"
    "workdir=/v/w,xino=off"
)
TMPFS = "28 1 0:30 / /srv rw,nosuid,nodev shared:5 - tmpfs tmpfs rw,size=1024k,inode64"
NTFS = "29 1 8:17 / /srv rw,relatime shared:6 - fuseblk /dev/sdb1 rw,user_id=0,group_id=0,blksize=4096"
ROOTLESS = "30 1 0:31 / /srv rw,nodev,noatime - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0,group_id=0"


def mount(line: str) -> Mount:
    [found] = parse_mountinfo(line + "\n")
    return found


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        pytest.param(NFS, "mount it with actimeo=0,lookupcache=none", id="nfs, default: 3 to 60 seconds"),
        pytest.param(NFS_NO_TIMES, "mount it with actimeo=0,lookupcache=none", id="nfs: names are cached"),
        pytest.param(NFS_SOME_TIMES, "mount it with actimeo=0,lookupcache=none", id="nfs: those of folders"),
        pytest.param(NFS_UNCACHED, "", id="nfs as it has to be"),
        pytest.param(NFS_NOAC, "", id="noac is actimeo=0 and sync"),
        pytest.param(NFS3_NOLOCK, "mount it without that", id="nfs: locks of this host only"),
        pytest.param(GLUSTER, "attribute-timeout=0", id="fuse does not show what it caches"),
        pytest.param(CIFS, "mount it with cache=none,actimeo=0", id="cifs, default: a second"),
        pytest.param(CIFS_UNCACHED, "", id="cifs as it has to be"),
        pytest.param(CIFS_NOBRL, "mount it without that", id="cifs: locks of this host only"),
        *(
            pytest.param(line, "", id=f"of this host: {mount(line).kind}")
            for line in (EXT4, XFS, BTRFS, OVERLAY, TMPFS, NTFS, ROOTLESS)
        ),
    ],
)
def test_what_hosts_can_share(line: str, advice: str) -> None:
    problem = sharing_problem("/srv/store", mount(line), "auto")
    assert advice in problem
    assert bool(problem) is bool(advice)
    if problem:
        assert problem.startswith(f"the store /srv/store is on {mount(line).kind}, ")
        assert "`storage.sharedFileSystem: exclusive`" in problem


@pytest.mark.parametrize(
    ("line", "declared", "refused"),
    [
        pytest.param(NFS, "exclusive", False, id="nobody else changes what is cached"),
        pytest.param(NFS3_NOLOCK, "exclusive", False, id="nobody else needs the locks"),
        pytest.param(GLUSTER, "uncached", False, id="what FUSE does not show"),
        pytest.param(NFS3_NOLOCK, "uncached", True, id="but locks are shown"),
    ],
)
def test_what_an_operator_says_of_it_counts(line: str, declared: SharedFileSystem, *, refused: bool) -> None:
    assert bool(sharing_problem("/srv/store", mount(line), declared)) is refused


@pytest.mark.parametrize(
    ("line", "durability", "effective"),
    [
        pytest.param(GLUSTER, "batch", "full", id="syncfs does nothing on FUSE"),
        pytest.param(NTFS, "batch", "full", id="on a local disk neither"),
        pytest.param(GLUSTER, "none", "none", id="nothing was asked for"),
        pytest.param(NFS, "batch", "batch", id="NFS writes back"),
        pytest.param(EXT4, "batch", "batch", id="as ever"),
    ],
)
def test_files_are_synced_one_by_one_where_syncfs_does_nothing(
    line: str, durability: Durability, effective: Durability
) -> None:
    assert effective_durability(durability, mount(line)) == effective
    assert effective_durability(durability, None) == durability


@pytest.mark.parametrize(
    ("line", "shared"), [(NFS, True), (CIFS, True), (GLUSTER, True), (NTFS, False), (EXT4, False)]
)
def test_which_file_systems_doctor_speaks_of(line: str, *, shared: bool) -> None:
    assert is_shared_kind(mount(line)) is shared


ROOT = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw"


@pytest.mark.parametrize(
    ("lines", "path", "kind"),
    [
        pytest.param([ROOT, NFS], "/srv/store", "nfs4", id="the nearest one"),
        pytest.param([NFS, ROOT], "/srv", "nfs4", id="the folder itself, in any order"),
        pytest.param([ROOT, NFS], "/srv2", "ext4", id="only whole parts of a path"),
        pytest.param([ROOT, NFS, EXT4], "/srv/store", "ext4", id="mounted over: the later one hides it"),
        pytest.param([], "/srv", None, id="a kernel that does not tell"),
        pytest.param(["what - ever", "", "1 2 3 / /srv rw - "], "/srv", None, id="lines of another form"),
        pytest.param(
            [ROOT, NFS.replace(" /srv ", r" /srv/my\040store ")], "/srv/my store/a", "nfs4", id="a blank"
        ),
    ],
)
def test_which_mount_a_path_is_on(lines: list[str], path: str, kind: str | None) -> None:
    found = mount_of(path, parse_mountinfo("\n".join(lines)))
    assert (found and found.kind) == kind


def test_options_are_those_of_the_mount_and_of_the_file_system() -> None:
    found = mount(BTRFS)
    assert (found.source, found.options["relatime"], found.options["subvol"]) == ("/dev/sda2", "", "/@srv")


def test_this_machine_tells_what_it_is_mounted_on(tmp_path: Path) -> None:
    found = mounted_on(str(tmp_path.resolve()))
    assert found is not None
    assert found.kind


def test_a_store_that_cannot_be_shared_is_read_and_not_collected(tmp_path: Path) -> None:
    """In a mount namespace in which the kernel's file says that everything is on NFS."""
    Store.open(tmp_path / "store")
    done = as_if_mounted(
        NFS.replace(" /srv ", " / "),
        tmp_path,
        "from registry_server.store.gc.collector import Care, collect\n"
        "from registry_server.store.errors import StoreNotShareable\n"
        "from registry_server.store.store import Store\n"
        f"root = Path({str(tmp_path / 'store')!r})\n"
        "store = Store.open(root)\n"
        "print(store.repositories(), collect(store, care=Care(dry_run=True)).trashed)\n"
        "collect(Store.open(root, shared_file_system='exclusive'))\n"
        "try:\n    collect(store)\nexcept StoreNotShareable as error:\n    print(error)\n",
    )
    assert done.stdout.startswith("[] 0\nthe store "), done.stdout + done.stderr
    assert "actimeo=0,lookupcache=none" in done.stdout


def test_a_store_on_a_disk_of_this_host_is_collected(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.require_shareable()
    assert collect(store, care=Care()).trashed == 0


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        pytest.param((), True, id="reading loses nothing"),
        pytest.param(("--writable",), False, id="a push could be lost"),
        pytest.param(
            ("--writable", "--shared-file-system", "uncached"), True, id="the operator says it cannot"
        ),
    ],
)
def test_a_server_for_pushes_does_not_begin_where_they_could_be_lost(
    tmp_path: Path, arguments: tuple[str, ...], *, begins: bool
) -> None:
    command = [sys.executable, "-m", "registry_server", "--root", str(tmp_path / "store"), "--port", "0"]
    command += [
        "--tls-cert",
        "none.pem",
        "--tls-key",
        "none.pem",
        *arguments,
    ]  # it ends with the next mistake
    done = run_as_if_mounted(GLUSTER.replace(" /srv ", " / "), command, folder=tmp_path)
    assert ("attribute-timeout=0" in done.stderr) is not begins
    assert ("none.pem" in done.stderr) is begins


def test_a_server_that_is_a_child_is_told_what_the_operator_says(tmp_path: Path) -> None:
    options = ServerOptions(tmp_path, shared_file_system="exclusive")
    arguments = options.arguments()
    assert arguments[arguments.index("--shared-file-system") + 1] == "exclusive"
    assert "--shared-file-system" not in ServerOptions(tmp_path).arguments()


def as_if_mounted(line: str, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from pathlib import Path\n{code}"]
    return run_as_if_mounted(line, command, folder=folder)
