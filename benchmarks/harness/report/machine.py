"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSIONS = {
    "skopeo": ("skopeo", "--version"),
    "docker-registry": ("docker-registry", "--version"),
    "nginx": ("nginx", "-v"),
    "wrk": ("wrk", "-v"),
    "regsync": ("regsync", "version"),
    "zot": ("zot", "--version"),
    "crane": ("crane", "version"),
    "oras": ("oras", "version"),
    "distribution": ("registry", "--version"),
    "cosign": ("cosign", "version"),
    "versitygw": ("versitygw", "--version"),
}
_NUMBER = re.compile(r"v?\d+\.\d[\w.+~-]*")
_OURS = ("httpx", "granian", "starlette", "prefect")


def describe(folder: Path) -> dict[str, str]:
    """Machine, versions and the file system of `folder`, by what they are called in the results."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{os.cpu_count()} x {_cpu_model()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load": f"load average {os.getloadavg()[0]:.1f} at the beginning",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "files": f"{_file_system(folder)}",
        "libraries": ", ".join(f"{name} {metadata.version(name)}" for name in _OURS),
        "peers": ", ".join(f"{name} {version}" for name, version in _peers().items()),
    }


def sentence(machine: Mapping[str, str]) -> str:
    return "; ".join(machine[key] for key in ("date", "cpu", "load", "memory", "system", "files", "peers"))


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    kind = subprocess.run(
        ["stat", "--file-system", "--format", "%T", str(folder)], capture_output=True, text=True, check=False
    )
    return f"files on {kind.stdout.strip() or 'an unknown file system'}"


def _peers() -> dict[str, str]:
    return {name: _version(command) for name, command in _VERSIONS.items() if shutil.which(command[0])}


def _version(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).replace("/", " ").replace(",", " ").split()
    return next(filter(_NUMBER.fullmatch, words), "of unknown version")
