"""BuildKit as a user would start it: a daemon of its own, and builds that begin `FROM` an image."""

from __future__ import annotations

import json
import subprocess
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.clients.programs import await_daemon, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class BuildKit:
    """A daemon with the `buildkitd.toml` that `mirrorflow client buildkit --write` made."""

    buildctl: str
    socket: Path
    folder: Path

    def pull(self, image: str) -> str:
        """The digests of its layers, which a build that adds nothing hands on as they are."""
        context, result = self.folder / "context", self.folder / "result.tar"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(f"FROM {image}\n")
        folders = [f"--local={name}={context}" for name in ("context", "dockerfile")]
        self._buildctl("build", "--frontend=dockerfile.v0", *folders, f"--output=type=oci,dest={result}")
        return " ".join(_layers(result))

    def forget(self) -> None:
        self._buildctl("prune", "--all")

    def _buildctl(self, *arguments: str) -> str:
        return run(self.buildctl, "--addr", f"unix://{self.socket}", *arguments)


def _layers(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:

        def read(digest: str) -> dict[str, object]:
            file = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert file is not None
            found: dict[str, object] = json.load(file)
            return found

        index = tar.extractfile("index.json")
        assert index is not None
        found = read(json.load(index)["manifests"][0]["digest"])
        layers = found["layers"]
        assert isinstance(layers, list)
        return [layer["digest"] for layer in layers]


@contextmanager
def running_buildkit(program: str, buildctl: str, folder: Path, etc: Path) -> Iterator[BuildKit]:
    """Needs root."""
    folder.mkdir(parents=True)
    found, log = BuildKit(buildctl, folder / "buildkitd.sock", folder), folder / "log"
    command = [
        program, f"--config={etc}/buildkit/buildkitd.toml", f"--addr=unix://{found.socket}",
        f"--root={folder}/root", "--containerd-worker=false", "--oci-worker-snapshotter=native",
    ]  # fmt: skip
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        await_daemon(lambda: found._buildctl("debug", "workers"), child, log)
        yield found
    finally:
        child.terminate()
        child.wait()
