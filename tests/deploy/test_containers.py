"""Containerfile and compose.yaml: what they start is there, and so is what they need of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from flows.cli.app import app
from profiles.environment import VARIABLES

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text()
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
OURS = {name: each for name, each in SERVICES.items() if name != "postgres"}
COMMANDS: Any = typer.main.get_command(app)


def test_what_the_image_copies_is_there_and_is_not_ignored() -> None:
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    names = [name for source in sources for name in source.split()]
    ignored = (ROOT / ".containerignore").read_text()
    assert len(names) >= 6
    for name in names:
        assert (ROOT / name).exists()
        assert f"\n!{name}\n" in ignored
    assert ignored == (ROOT / ".dockerignore").read_text(), "docker and podman read one of them each"


def test_the_image_has_every_package_of_the_wheel() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r"targets\.wheel\]\npackages = \[(.*)\]", text)
    assert found is not None
    for package in re.findall(r'"(\w+)"', found[1]):
        assert f"COPY {package} /src/{package}\n" in CONTAINERFILE


def test_the_image_installs_from_the_lock_and_is_not_root() -> None:
    assert "--require-hashes" in CONTAINERFILE
    assert re.search(r"^USER 65532:65532$", CONTAINERFILE, re.MULTILINE)
    assert 'ENTRYPOINT ["mirrorflow"]' in CONTAINERFILE
    assert re.findall(r'^CMD \["(\w+)"\]', CONTAINERFILE, re.MULTILINE) == ["up"]


def test_the_variables_of_the_image_are_ours() -> None:
    found = set(re.findall(r"\b(MIRRORFLOW_\w+)=", CONTAINERFILE))
    assert found == {*VARIABLES, "MIRRORFLOW_PROFILE"} - {"MIRRORFLOW_CREDENTIALS_FILE"}


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_compose_is_locked_down(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["stop_grace_period"] == "30s"


def test_compose_starts_commands_that_there_are() -> None:
    for service in OURS.values():
        if "entrypoint" not in service:
            assert service["command"][0] in COMMANDS.commands
        elif service["entrypoint"][0] == "/bin/sh":
            for command, below in re.findall(r"mirrorflow (\w+)(?: (\w+))?", service["command"][0]):
                assert command in COMMANDS.commands
                assert not below or below in COMMANDS.commands[command].commands


def test_compose_mounts_and_waits_for_what_it_has() -> None:
    volumes = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["volumes"]
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in volumes or source == "./profile.yaml"


def test_compose_itself_takes_the_file() -> None:
    for command in (["docker", "compose"], ["podman-compose"]):
        if shutil.which(command[0]) is None:
            continue
        asked = [
            subprocess.run([*command, argument], capture_output=True, text=True, check=False)
            for argument in ("version", "--help")
        ]
        # docker without its plugin has no `compose`, podman-compose 1.0 no `config`.
        if any(each.returncode for each in asked) or "config" not in asked[-1].stdout:
            continue
        done = subprocess.run(
            [*command, "-f", "deploy/compose.yaml", "config"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return
    pytest.skip("neither docker compose nor a podman-compose with `config` is installed")


def test_compose_is_as_its_specification_wants_it() -> None:
    """`go mod download github.com/compose-spec/compose-go/v2@latest` brings the schema."""
    home = Path(os.environ.get("GOPATH") or Path.home() / "go")
    schemas = sorted(home.glob("pkg/mod/github.com/compose-spec/compose-go/v2@*/schema/compose-spec.json"))
    if not schemas:
        pytest.skip("the schema of the Compose specification is not in Go's module cache")
    checker = jsonschema.Draft201909Validator(json.loads(schemas[-1].read_text()))
    document = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    assert [error.message for error in checker.iter_errors(document)] == []
    document["services"]["mirror"]["ports"] = "8080"
    assert not checker.is_valid(document)


def test_the_image_builds_and_starts() -> None:
    """Some minutes, so only with a base in MIRRORFLOW_BASE_IMAGE: docker.io/library/python:3.13-slim."""
    buildah, base = shutil.which("buildah"), os.environ.get("MIRRORFLOW_BASE_IMAGE")
    if buildah is None or not base:
        pytest.skip("it needs buildah, and a base image in MIRRORFLOW_BASE_IMAGE")
    arguments = ["--build-arg", f"BASE={base}", "--build-arg", "VERSION=1.2.3", "-t", "mirrorflow-test"]
    build = [buildah, "build", "--layers", "--network", "host", *arguments, "-f", "deploy/Containerfile", "."]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    run = [buildah, "from", "mirrorflow-test"]
    name = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    try:
        said = subprocess.run(
            [buildah, "run", name, "--", "mirrorflow", "--version"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == "mirrorflow 1.2.3"
    finally:
        subprocess.run([buildah, "rm", name], capture_output=True, check=False)
