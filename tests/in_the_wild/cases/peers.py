"""crane, regctl, oras and skopeo as they are installed: what each of them lists and copies."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_PATIENCE: Final = 15  # seconds of one command; some rows hang


@dataclass(frozen=True, slots=True)
class Peer:
    """`tags` makes a command line of `host/repository`, `copy` of `host/repository:tag` and a folder."""

    name: str
    tags: Callable[[str], Sequence[str]]
    copy: Callable[[str, Path], Sequence[str]]

    @property
    def installed(self) -> bool:
        return shutil.which(self.name) is not None

    def mirrored(self, host: str, repositories: Sequence[str], folder: Path) -> set[str]:
        """Every `repository:tag` that it lists and then copies, bytes and all."""
        found = (f"{each}:{tag}" for each in repositories for tag in self._list(f"{host}/{each}", folder))
        listed = list(dict.fromkeys(found))
        folders = [folder / str(number) for number in range(len(listed))]
        with ThreadPoolExecutor(4) as pool:
            copied = pool.map(self._copies, [f"{host}/{name}" for name in listed], folders)
            return {name for name, done in zip(listed, copied, strict=True) if done}

    def _list(self, repository: str, home: Path) -> list[str]:
        done = _run(self.tags(repository), home)
        if done is None or done.returncode:
            return []
        return [word.strip('",') for word in done.stdout.split() if _is_tag(word.strip('",'), repository)]

    def _copies(self, image: str, folder: Path) -> bool:
        folder.mkdir(parents=True)
        done = _run(self.copy(image, folder), folder)
        return done is not None and done.returncode == 0


def _is_tag(word: str, repository: str) -> bool:
    """skopeo prints JSON, with the repository's name. The tags of the rows begin with a letter or a digit."""
    return word[:1].isalnum() and ":" not in word and word not in {"Repository", "Tags", repository}


def _run(command: Sequence[str], home: Path) -> subprocess.CompletedProcess[str] | None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "REGCTL_CONFIG": str(home / "regctl.json")}
    (home / "regctl.json").write_text("{}")
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE, env=environment, cwd=home
        )
    except subprocess.TimeoutExpired:
        return None


def _regctl(*arguments: str, host: str) -> list[str]:
    return ["regctl", "--host", f"reg={host.partition('/')[0]},tls=disabled", *arguments]


PEERS: Final = (
    Peer(
        "crane",
        lambda repository: ["crane", "ls", "--insecure", repository],
        lambda image, folder: ["crane", "pull", "--insecure", "--format=oci", image, str(folder / "out")],
    ),
    Peer(
        "regctl",
        lambda repository: _regctl("tag", "ls", repository, host=repository),
        lambda image, folder: _regctl("image", "copy", image, f"ocidir://{folder}/out:x", host=image),
    ),
    Peer(
        "oras",
        lambda repository: ["oras", "repo", "tags", "--plain-http", repository],
        lambda image, folder: [
            *("oras", "copy", "--from-plain-http", "--to-oci-layout"),
            *(image, f"{folder}/out:x"),
        ],
    ),
    Peer(
        "skopeo",
        lambda repository: ["skopeo", "list-tags", "--tls-verify=false", f"docker://{repository}"],
        lambda image, folder: [
            *("skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false"),
            *(f"docker://{image}", f"dir:{folder}/out"),
        ],
    ),
)
