"""podman, containerd and skopeo as a user would start them, each in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SECONDS = 60
# No sandboxes, no runtimes, no file systems: only what pulls.
_CONTAINERD = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]
[grpc]
address = "{folder}/containerd.sock"
[ttrpc]
address = "{folder}/containerd.sock.ttrpc"
"""


class PullFailed(Exception):
    """What the program said."""


def run(*command: object, **environment: str) -> str:
    """Its standard output. Raises `PullFailed`."""
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise PullFailed(f"{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Podman:
    """With storage of its own, and `etc` (what `mirrorflow client podman --write` made)."""

    program: str
    folder: Path
    etc: Path

    def pull(self, image: str) -> str:
        """The image's id, which is the digest of its config."""
        return self._podman("pull", "--quiet", image).strip()

    def forget(self) -> None:
        self._podman("rmi", "--all", "--force")

    def login(self, host: str, user: str, password: str) -> None:
        self._podman("login", "--username", user, "--password", password, host)

    def _podman(self, *arguments: str) -> str:
        where = ("--root", self.folder / "root", "--runroot", self.folder / "run", "--storage-driver", "vfs")
        policy = self.folder / "policy.json"
        (self.folder / "xdg").mkdir(parents=True, exist_ok=True)
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        more = ("--signature-policy", policy) if arguments[0] == "pull" else ()
        command, *rest = arguments
        return run(
            *(self.program, *where, command, *more, *rest),
            CONTAINERS_REGISTRIES_CONF=str(self.etc / "containers/registries.conf.d/50-mirrorflow.conf"),
            HOME=str(self.folder),
            XDG_RUNTIME_DIR=str(self.folder / "xdg"),
        )


@dataclass(frozen=True)
class Containerd:
    """A daemon, and `ctr` with `hosts.toml` files out of `etc`."""

    ctr: str
    socket: Path
    etc: Path

    def pull(self, image: str) -> str:
        """The digest behind the name."""
        hosts = self.etc / "containerd/certs.d"
        self._ctr("images", "pull", "--snapshotter", "native", "--hosts-dir", str(hosts), image)
        [line] = self._ctr("images", "ls", f"name=={image}").splitlines()[1:]
        return next(word for word in line.split() if word.startswith("sha256:"))

    def forget(self) -> None:
        for name in self._ctr("images", "ls", "--quiet").split():
            self._ctr("images", "rm", "--sync", name)

    def _ctr(self, *arguments: str) -> str:
        return run(self.ctr, "--address", self.socket, *arguments)


@contextmanager
def running_containerd(program: str, ctr: str, folder: Path, etc: Path) -> Iterator[Containerd]:
    """Needs root."""
    folder.mkdir(parents=True)
    config, log = folder / "config.toml", folder / "log"
    config.write_text(_CONTAINERD.format(folder=folder))
    with log.open("wb") as output:
        child = subprocess.Popen([program, "--config", str(config)], stdout=output, stderr=output)
    found = Containerd(ctr, folder / "containerd.sock", etc)
    try:
        await_daemon(lambda: found._ctr("version"), child, log)
        yield found
    finally:
        child.terminate()
        child.wait()


def await_daemon(ask: Callable[[], object], child: subprocess.Popen[bytes], log: Path) -> None:
    """Until `ask` raises `PullFailed` no more; shows what a daemon said that ends, or takes too long."""
    end = time.monotonic() + _SECONDS
    while True:
        try:
            ask()
        except PullFailed:
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        else:
            return
