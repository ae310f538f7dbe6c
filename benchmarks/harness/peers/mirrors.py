"""Programs of others that bring tags of a registry into a folder or a registry, each as its users run it.

Each is called twice or more with one folder where an unchanged upstream is polled. Those that take a number
of requests at once get the same as ours.
"""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.peers.servers import docker_registry, zot
from benchmarks.harness.processes import Usage, cpu_seconds, peak_memory, run
from profiles.model.registry_entry import RegistryEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.harness.place import Place

WIDTH: Final = int(RegistryEntry.model_fields["req_concurrent"].default)
_SYNCED: Final = "sync: finished syncing repo"  # zot's log, once a repository and poll
_LOOK: Final = 0.01  # seconds between two looks at that log
_SYNC_WITHIN: Final = 900.0  # seconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """Repositories and their tags, at the plain HTTP registry at `host:port`."""

    host: str
    tags: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Mirror:
    """A contender: the program that it needs beside what Debian has, and what it does in a folder."""

    program: str
    into: Callable[[str, Wanted, Path], Usage]


def present(place: Place, *names: str) -> dict[str, Callable[[Wanted, Path], Usage]]:
    """Those of `MIRRORS` whose program is on PATH."""
    programs = place.optional(*(MIRRORS[name].program for name in names))

    def bound(name: str, program: str) -> Callable[[Wanted, Path], Usage]:
        return lambda wanted, folder: MIRRORS[name].into(program, wanted, folder)

    return {
        name: bound(name, programs[MIRRORS[name].program])
        for name in names
        if MIRRORS[name].program in programs
    }


def _regsync(program: str, wanted: Wanted, folder: Path) -> Usage:
    """Into OCI layouts, one a repository."""
    document = {
        "version": 1,
        "creds": [{"registry": wanted.host, "tls": "disabled", "reqConcurrent": WIDTH}],
        "defaults": {"parallel": WIDTH},
        "sync": [
            {
                "source": f"{wanted.host}/{name}",
                "target": f"ocidir://{folder}/layouts/{name}",
                "type": "repository",
            }
            for name in wanted.tags
        ],
    }
    config = folder / "regsync.yml"
    config.write_text(json.dumps(document))  # JSON is YAML
    return run([program, "once", "-c", str(config)]).usage


def _crane(program: str, wanted: Wanted, folder: Path) -> Usage:
    """Into OCI layouts, one a repository, so many of them at once."""
    return _side_by_side(
        folder,
        (
            shlex.join(
                [
                    program, "pull", "--insecure", "--format=oci",
                    *(f"{wanted.host}/{name}:{tag}" for tag in tags), str(folder / "layouts" / name),
                ]
            )
            for name, tags in wanted.tags.items()
        ),
    )  # fmt: skip


def _oras(program: str, wanted: Wanted, folder: Path) -> Usage:
    """The same; it copies one image a call."""
    command = [program, "cp", "--from-plain-http", "--to-oci-layout", "--no-tty"]
    return _side_by_side(
        folder,
        (
            " && ".join(
                shlex.join([*command, f"{wanted.host}/{name}:{tag}", f"{folder}/layouts/{name}:{tag}"])
                for tag in tags
            )
            for name, tags in wanted.tags.items()
        ),
    )


def _side_by_side(folder: Path, lines: Iterable[str]) -> Usage:
    """Lines of shell, `WIDTH` of them at once; a layout cannot be written by two."""
    scripts = folder / "scripts"
    scripts.mkdir(exist_ok=True)
    for number, line in enumerate(lines):
        (scripts / f"{number:04}").write_text(line)
    return run(["sh", "-c", f'ls "$1"/* | xargs -P {WIDTH} -n 1 sh', "sh", str(scripts)]).usage


def _skopeo(program: str, wanted: Wanted, folder: Path) -> Usage:
    """Into a docker-registry: into a folder it would fetch shared layers once for each image."""
    file = folder / "skopeo.yml"
    file.write_text(json.dumps({wanted.host: {"tls-verify": False, "images": dict(wanted.tags)}}))
    command = [program, "sync", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false", str(file)]
    with docker_registry("docker-registry", folder, folder / "registry") as target:
        return run([*command, target.host]).usage


def zot_sync(program: str, wanted: Wanted, folder: Path, storage: Mapping[str, Any] | None = None) -> Usage:
    """From its start until it says that the last repository is synced."""
    log = folder / "zot.log"
    log.write_text("")
    entry = {
        "urls": [f"http://{wanted.host}"],
        "content": [{"prefix": name} for name in wanted.tags],
        "tlsVerify": False,
        "pollInterval": "24h",
        "reqConcurrent": WIDTH,
    }
    began = time.perf_counter()
    with zot(program, folder, folder / "zot", entry, log, **(storage or {})) as server:
        _await_synced(log, len(wanted.tags))
        wall = time.perf_counter() - began
        return Usage(wall, cpu_seconds(server.pid), peak_memory(server.pid))


def _await_synced(log: Path, repositories: int) -> None:
    deadline = time.monotonic() + _SYNC_WITHIN
    while time.monotonic() < deadline:
        if log.read_text().count(_SYNCED) >= repositories:
            return
        time.sleep(_LOOK)
    raise TimeoutError(f"zot has not synced {repositories} repositories: {log.read_text()[-800:]}")


MIRRORS: Final = {
    "regsync to ocidir": Mirror("regsync", _regsync),
    "zot sync": Mirror("zot", zot_sync),
    "crane pull": Mirror("crane", _crane),
    "oras cp": Mirror("oras", _oras),
    "skopeo sync": Mirror("skopeo", _skopeo),
}
