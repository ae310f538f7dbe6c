"""`python -m deploy.image`: the image of the Containerfile, assembled without a container builder.

Takes a base image with Python as an OCI image layout, and writes another one: two layers more, the
dependencies and the code, for every platform that the base has. pip fetches the wheels of each platform, so
nothing has to run on it. The same inputs give the same bytes (SOURCE_DATE_EPOCH is the time of all files).

    skopeo copy --all docker://docker.io/library/python:3.13-slim oci:base
    python -m deploy.image --base base --output mirrorflow --tag 1.0.0
    skopeo copy --all oci:mirrorflow:1.0.0 docker://registry.example/mirrorflow:1.0.0
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.markers import Marker

from deploy.layout import Layout, LayoutUnusable
from profiles.environment import HTTP_ADDRESS, HTTP_PORT, ROOT_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry_server.oci.descriptor import Descriptor, Platform

ROOT: Final = Path(__file__).parents[1]
HOME: Final = "opt/mirrorflow"
_USER: Final = 65532
_PATCHES: Final = ("0", "99")  # of Python, for markers: which one the base has is not known
_SCRIPT: Final = (
    "#!/usr/bin/env python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
)
_SCRIPTS: Final = {
    "mirrorflow": _SCRIPT.format(module="flows.cli", function="main"),
    "prefect": _SCRIPT.format(module="prefect.cli", function="app"),
}
# The tags of wheels that run on the platform; glibc 2.17 to 2.28 is what Debian 12 and later have.
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC: Final = ("2_17", "2_28", "2_31", "2_34")
# What pip writes of the machine that it ran on.
_LOCAL: Final = ("direct_url.json", "INSTALLER", "REQUESTED")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        done = assemble(
            Layout.open(Path(options.base)),
            Layout.create(Path(options.output)),
            tag=options.tag,
            requirements=options.requirements,
            wheel=options.wheel,
            python=options.python,
            pip=["--no-index", "--find-links", options.wheels] if options.wheels else [],
            epoch=int(os.environ.get("SOURCE_DATE_EPOCH", "0")),
        )
    except (LayoutUnusable, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(f"{options.output}:{options.tag} {done.digest}")


def assemble(
    base: Layout,
    output: Layout,
    *,
    tag: str,
    requirements: Path,
    wheel: Path,
    python: str,
    pip: Sequence[str] = (),
    epoch: int = 0,
) -> Descriptor:
    """Raises `LayoutUnusable`, and CalledProcessError with what pip has already said."""
    made = []
    for platform, manifest in base.images():
        with tempfile.TemporaryDirectory(prefix="mirrorflow-image-") as folder:
            dependencies, code = Path(folder, "dependencies"), Path(folder, "code")
            target = [*pip, *_platform_options(platform, python)]
            lock = Path(folder, "requirements.lock")
            lock.write_text(lock_for(requirements.read_text(), platform, python))
            _install(dependencies, [*target, "--require-hashes", "--requirement", str(lock)])
            _install(code, [*target, str(wheel)])
            layers = [_layer(dependencies, {}, epoch), _layer(code, _SCRIPTS, epoch)]
        made.append((platform, _image(base, output, manifest, layers, version=tag, epoch=epoch)))
    return output.tag(made, tag)


def lock_for(text: str, platform: Platform, python: str) -> str:
    """Of a lock for all platforms what one of them needs, by the markers of its lines.

    pip asks the Python that it runs in for markers, whatever `--platform` and `--python-version` say.
    """
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": _MACHINES[platform.architecture],
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_version": python,
        "sys_platform": "linux",
    }
    kept = []
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text):
        requirement, _, hashes = entry.partition("\\\n")
        name, _, marker = requirement.partition(";")
        versions = ({**environment, "python_full_version": f"{python}.{patch}"} for patch in _PATCHES)
        if not marker.strip() or any(Marker(marker.strip()).evaluate(each) for each in versions):
            kept.append(f"{name.strip()} \\\n{hashes}" if hashes else name)
    return "\n".join(kept)


def _platform_options(platform: Platform, python: str) -> list[str]:
    machine = _MACHINES.get(platform.architecture)
    if platform.os != "linux" or machine is None:
        raise LayoutUnusable(
            f"there are no wheels for {platform}; leave it out of the base: linux/amd64, arm64"
        )
    tags = [f"manylinux_{glibc}_{machine}" for glibc in reversed(_GLIBC)] + [f"manylinux2014_{machine}"]
    chosen = [part for each in tags for part in ("--platform", each)]
    return [*chosen, "--python-version", python, "--implementation", "cp", "--only-binary=:all:"]


def _install(folder: Path, options: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-compile", "--target", str(folder), *options], check=True)
    shutil.rmtree(folder / "bin", ignore_errors=True)  # they name the Python that pip ran in
    for record in folder.glob("*.dist-info/RECORD"):
        kept = [line for line in record.read_text().splitlines(keepends=True) if not _is_local(line)]
        record.write_text("".join(kept))
        for name in _LOCAL:
            (record.parent / name).unlink(missing_ok=True)


def _is_local(line: str) -> bool:
    path = line.partition(",")[0]
    return path.startswith(("bin/", "../../bin/")) or path.rpartition("/")[2] in _LOCAL


def _layer(folder: Path, scripts: dict[str, str], epoch: int) -> tuple[bytes, bytes]:
    """As a tar, and compressed: sorted, of one time and one owner."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            name = f"{HOME}/lib/{path.relative_to(folder)}"
            content = None if path.is_dir() else path.read_bytes()
            _add(archive, name, content, executable=path.stat().st_mode & 0o100 != 0, epoch=epoch)
        for name, text in sorted(scripts.items()):
            _add(archive, f"{HOME}/bin/{name}", text.encode(), executable=True, epoch=epoch)
        if scripts:
            _add(archive, "data", None, executable=True, epoch=epoch, owner=_USER)
    return tar.getvalue(), gzip.compress(tar.getvalue(), compresslevel=6, mtime=0)


def _add(
    archive: tarfile.TarFile,
    name: str,
    content: bytes | None,
    *,
    executable: bool,
    epoch: int,
    owner: int = 0,
) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.uid, entry.gid = epoch, owner, owner
    entry.mode = 0o755 if content is None or executable else 0o644
    if content is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def _image(
    base: Layout,
    output: Layout,
    manifest: dict[str, Any],
    layers: Iterable[tuple[bytes, bytes]],
    *,
    version: str,
    epoch: int,
) -> Descriptor:
    config = base.json(manifest["config"]["digest"])
    when = datetime.fromtimestamp(epoch, UTC).isoformat()
    added = []
    for tar, compressed in layers:
        added.append(output.add(compressed, "application/vnd.oci.image.layer.v1.tar+gzip"))
        config["rootfs"]["diff_ids"].append(output.digest_of(tar))
        config.setdefault("history", []).append({"created": when, "created_by": "python -m deploy.image"})
    config["created"], config["config"] = when, _settings(config.get("config") or {}, version)
    for layer in manifest["layers"]:
        output.copy(base, layer["digest"])
    return output.add_image(config, [*manifest["layers"], *(each.to_json() for each in added)])


def _settings(base: dict[str, Any], version: str) -> dict[str, Any]:
    """The same as those of the Containerfile."""
    variables = dict(each.partition("=")[::2] for each in base.get("Env") or ())
    variables |= {
        "PATH": f"/{HOME}/bin:{variables.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
        "PYTHONPATH": f"/{HOME}/lib",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",  # noqa: S108 - of the container
        "NO_COLOR": "1",
        "MIRRORFLOW_PROFILE": "/etc/mirrorflow/profile.yaml",
        ROOT_DIRECTORY: "/data",
        HTTP_ADDRESS: "0.0.0.0",  # noqa: S104 - of the container
        HTTP_PORT: "8080",
    }
    labels = {
        "org.opencontainers.image.title": "mirrorflow",
        "org.opencontainers.image.description": "A declarative mirror of OCI registries",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": version,
    }
    return {
        **base,
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": (base.get("Labels") or {}) | labels,
        "User": f"{_USER}:{_USER}",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"8080/tcp": {}, "4200/tcp": {}},
        "StopSignal": "SIGTERM",
        "WorkingDir": "/",
        "Entrypoint": ["mirrorflow"],
        "Cmd": ["up"],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.image",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", required=True, help="OCI image layout (a folder) with Python and glibc")
    parser.add_argument("--output", required=True, help="the layout to write or to add to")
    parser.add_argument("--tag", required=True, help="the tag, which is the version in the labels too")
    parser.add_argument(
        "--wheel", type=Path, required=True, help="the wheel of mirrorflow: `pip wheel --no-deps .`"
    )
    parser.add_argument("--python", default="3.13", help="the Python of the base (default: 3.13)")
    parser.add_argument("--wheels", help="a folder with all wheels: then no package index is asked")
    parser.add_argument(
        "--requirements", type=Path, default=ROOT / "deploy/requirements.lock", help="the lock"
    )
    return parser


if __name__ == "__main__":
    main()
