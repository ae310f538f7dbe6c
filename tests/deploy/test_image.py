"""An image that is assembled without a builder: from a base layout, wheels and a lock."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy.image import assemble, lock_for, main
from deploy.layout import Layout, LayoutUnusable
from flows.demo.sample_images import AMD64, ARM64, ARM_V7, ImageMaker, layer
from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store.layout.exporter import export_images
from registry_server.store.store import Store
from tests.support.command_line import mirrorflow

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Platform

ROOT = Path(__file__).parents[2]


def make_wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    """A wheel of pure Python (binary distribution format), with its record."""
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},"
        f"{len(text)}"
        for path, text in files.items()
    ]
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in files.items():
            archive.writestr(each, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,", ""]))
    return path


def make_base(folder: Path, *platforms: Platform) -> Layout:
    store = Store.open(folder / "base-store", durability="none")
    maker = ImageMaker(store.repository(RepositoryName("python")))
    layers = {each: [layer(f"root-{each.architecture}", 500)] for each in platforms}
    maker.tag(maker.multi_platform(layers, docker=True, attested=True), "3.13")
    export_images(store, [ImageName.parse("python:3.13")], folder / "base")
    return Layout.open(folder / "base")


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    """A lock with one dependency, whose wheel is at hand, and a program that uses it."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    dependency = make_wheel(wheels, "dep", {"dep.py": "ANSWER = 42\n"})
    flows = "from dep import ANSWER\ndef main():\n    print(ANSWER)\n"
    wheel = make_wheel(tmp_path, "program", {"flows/__init__.py": "", "flows/cli.py": flows})
    lock = tmp_path / "lock"
    lock.write_text(f"dep==1.0 --hash=sha256:{hashlib.sha256(dependency.read_bytes()).hexdigest()}\n")
    return {
        "requirements": lock,
        "wheel": wheel,
        "python": f"3.{sys.version_info.minor}",
        "pip": ["--no-index", "--find-links", str(wheels)],
        "tag": "1.2.3",
    }


def unpacked(output: Layout, image: dict[str, Any], folder: Path) -> Path:
    """The layers that were added, over each other."""
    for each in image["layers"][-2:]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(output.blob(each["digest"])))) as archive:
            archive.extractall(folder, filter="tar")
    return folder


def test_the_image_runs_what_was_installed(tmp_path: Path, inputs: dict[str, Any]) -> None:
    output = Layout.create(tmp_path / "out")
    assemble(make_base(tmp_path, AMD64, ARM64), output, **inputs)
    images = dict(output.images())
    assert {str(each) for each in images} == {"linux/amd64", "linux/arm64/v8"}
    root = unpacked(output, images[AMD64], tmp_path / "root")
    environment = {**os.environ, "PYTHONPATH": str(root / "opt/mirrorflow/lib")}
    script = root / "opt/mirrorflow/bin/mirrorflow"
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "42\n"
    assert script.stat().st_mode & 0o111


def test_the_configuration_is_that_of_the_containerfile(tmp_path: Path, inputs: dict[str, Any]) -> None:
    output = Layout.create(tmp_path / "out")
    assemble(make_base(tmp_path, AMD64), output, **inputs)
    (_, manifest) = next(output.images())
    config = output.json(manifest["config"]["digest"])
    text = (ROOT / "deploy/Containerfile").read_text()
    assert f"USER {config['config']['User']}\n" in text
    assert f"ENTRYPOINT {json.dumps(config['config']['Entrypoint'])}\n" in text
    assert f"CMD {json.dumps(config['config']['Cmd'])}\n" in text
    for name, value in (
        each.split("=", 1) for each in config["config"]["Env"] if each.startswith("MIRRORFLOW_")
    ):
        assert f"{name}={value}" in text
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == 3
    for diff, each in zip(config["rootfs"]["diff_ids"], manifest["layers"], strict=True):
        assert Layout.digest_of(gzip.decompress(output.blob(each["digest"]))) == diff


def test_the_same_inputs_give_the_same_image(tmp_path: Path, inputs: dict[str, Any]) -> None:
    base = make_base(tmp_path, AMD64)
    first = assemble(base, Layout.create(tmp_path / "one"), **inputs)
    moved = inputs["wheel"].rename(tmp_path / "wheels" / inputs["wheel"].name)
    second = assemble(base, Layout.create(tmp_path / "two"), **{**inputs, "wheel": moved})
    assert first.digest == second.digest


def test_a_mirror_takes_it_in_and_serves_its_own_image(tmp_path: Path, inputs: dict[str, Any]) -> None:
    output = Layout.create(tmp_path / "out")
    made = assemble(make_base(tmp_path, AMD64, ARM64), output, **inputs)
    profile = tmp_path / "profile.yaml"
    profile.write_text("storage: {rootDirectory: store}\n")
    done = mirrorflow("store", "import", profile, output.folder, "--repository", "mirrorflow")
    assert done.returncode == 0, done.stderr
    found = Store.open(tmp_path / "store").repository(RepositoryName("mirrorflow"))
    assert found.find_manifest(Tag("1.2.3")).descriptor.digest == made.digest


@pytest.mark.parametrize(
    ("python", "platform", "names"),
    [
        pytest.param("3.13", AMD64, ["a", "always", "new"], id="a new Python"),
        pytest.param("3.11", AMD64, ["a", "always", "old", "patched"], id="an older one, whatever its patch"),
        pytest.param("3.11", ARM64, ["always", "arm", "old", "patched"], id="another machine"),
    ],
)
def test_the_lock_is_read_for_the_platform_of_the_image(
    python: str, platform: Platform, names: list[str]
) -> None:
    """And not for the Python that pip runs in."""
    markers = {
        "a": " ; platform_machine == 'x86_64'",
        "always": "",
        "arm": " ; platform_machine == 'aarch64'",
        "new": " ; python_full_version >= '3.13'",
        "old": " ; python_full_version < '3.13'",
        "patched": " ; python_full_version < '3.11.3'",
        "win": " ; sys_platform == 'win32'",
    }
    lines = [
        f"{name}==1.0{marker} \\\n    --hash=sha256:{name}\n    # via x" for name, marker in markers.items()
    ]
    found = lock_for("# a lock\n" + "\n".join(lines), platform, python)
    assert [line.split("==")[0] for line in found.splitlines() if "==" in line] == names
    assert found.count("--hash=") == len(names)
    assert ";" not in found


def test_a_wheel_that_is_not_the_one_of_the_lock_is_refused(tmp_path: Path, inputs: dict[str, Any]) -> None:
    inputs["requirements"].write_text(f"dep==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(subprocess.CalledProcessError):
        assemble(make_base(tmp_path, AMD64), Layout.create(tmp_path / "out"), **inputs)


def test_a_platform_without_wheels_is_refused(tmp_path: Path, inputs: dict[str, Any]) -> None:
    with pytest.raises(LayoutUnusable, match="there are no wheels for linux/arm/v7"):
        assemble(make_base(tmp_path, ARM_V7), Layout.create(tmp_path / "out"), **inputs)


def test_a_damaged_base_is_refused(tmp_path: Path, inputs: dict[str, Any]) -> None:
    base = make_base(tmp_path, AMD64)
    for path in (base.folder / "blobs/sha256").iterdir():
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            path.chmod(0o600)
            path.write_bytes(content[:-1])
    with pytest.raises(LayoutUnusable, match="missing or damaged"):
        assemble(base, Layout.create(tmp_path / "out"), **inputs)


def test_a_folder_that_is_no_layout_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is no OCI image layout"):
        main(["--base", str(tmp_path), "--output", str(tmp_path / "o"), "--tag", "1", "--wheel", "x.whl"])
