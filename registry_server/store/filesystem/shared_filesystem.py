"""What a file system that hosts share must be, for the garbage collector and for pushes.

The collector goes by the times of markers, and an upload goes on where another server has stopped. With
cached attributes a host reads both as they were some seconds ago: a blob that is needed would be deleted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from registry_server.store.filesystem.mountinfo import mount_of, parse_mountinfo

if TYPE_CHECKING:
    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.filesystem.mountinfo import Mount

SharedFileSystem = Literal["auto", "exclusive", "uncached"]
"""exclusive: no other host uses the store. uncached: the operator has turned the caches off."""

_NFS: Final = ("nfs", "nfs4")
_CIFS: Final = ("cifs", "smb3")
_LOCAL_FUSE: Final = (
    "fuseblk",
    "fuse.fuse-overlayfs",
)  # a disk of this host (ntfs-3g), and rootless containers
_NFS_TIMES: Final = ("acregmin", "acregmax", "acdirmin", "acdirmax")  # `actimeo=0` is shown as these
_ALONE: Final = "or write `storage.sharedFileSystem: exclusive` if no other host uses the store"


def mounted_on(path: str) -> Mount | None:
    """The mount that the real `path` is on; None where the kernel does not tell."""
    try:
        text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return None
    return mount_of(path, parse_mountinfo(text))


def sharing_problem(root: str, mount: Mount | None, declared: SharedFileSystem) -> str:
    """Why hosts cannot share the store `root`, and what to do, in one sentence; "" when nothing is wrong."""
    if mount is None or declared == "exclusive":
        return ""
    if local := _local_locks(mount):
        return (
            f"the store {root} is on {mount.kind}, mounted with {local}: other hosts do not see its locks; "
            f"mount it without that, {_ALONE}"
        )
    remedy = "" if declared == "uncached" else _remedy(mount)
    if not remedy:
        return ""
    return (
        f"the store {root} is on {mount.kind}, which may show what other hosts change some seconds later: "
        f"garbage collection and pushes could lose content; {remedy}, {_ALONE}"
    )


def effective_durability(durability: Durability, mount: Mount | None) -> Durability:
    """FUSE does not hand `syncfs` on to its server: there, every file is synced by itself."""
    if durability == "batch" and mount is not None and _is_fuse(mount):
        return "full"
    return durability


def is_shared_kind(mount: Mount) -> bool:
    """Whether other hosts may see this file system as well, through a client that caches."""
    return mount.kind in (*_NFS, *_CIFS) or (_is_fuse(mount) and mount.kind not in _LOCAL_FUSE)


def _remedy(mount: Mount) -> str:
    """What to mount it with; "" when it is so."""
    options = mount.options
    if mount.kind in _NFS:
        uncached = all(options.get(name) == "0" for name in _NFS_TIMES) or "noac" in options
        right = uncached and options.get("lookupcache") == "none"
        return "" if right else "mount it with actimeo=0,lookupcache=none"
    if mount.kind in _CIFS:
        right = options.get("cache") == "none" and options.get("actimeo") == "0"
        return "" if right else "mount it with cache=none,actimeo=0"
    if is_shared_kind(mount):
        return (
            "mount it without caches of attributes and names (for GlusterFS: attribute-timeout=0,"
            "entry-timeout=0) and write `storage.sharedFileSystem: uncached`"
        )
    return ""


def _local_locks(mount: Mount) -> str:
    """The option that keeps locks on this host, if there is one."""
    options = mount.options
    if mount.kind in _NFS and options.get("local_lock") in ("all", "posix"):
        return f"local_lock={options['local_lock']}"
    if mount.kind in _NFS and "nolock" in options:
        return "nolock"
    return "nobrl" if mount.kind in _CIFS and "nobrl" in options else ""


def _is_fuse(mount: Mount) -> bool:
    return mount.kind in ("fuse", "fuseblk") or mount.kind.startswith("fuse.")
