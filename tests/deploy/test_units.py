"""The systemd units: commands that there are, and what systemd itself says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli.app import app

UNITS = sorted((Path(__file__).parents[2] / "deploy/systemd").iterdir())


def read(unit: Path) -> RawConfigParser:
    # systemd repeats keys; the last one is enough here.
    found = RawConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign] # as the documentation of configparser says
    found.read_string(unit.read_text())
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_there_is(unit: Path) -> None:
    found = read(unit)
    assert "Description" in found["Unit"]
    if "Service" in found:
        _, command, profile = found["Service"]["ExecStart"].split()
        root: Any = typer.main.get_command(app)
        assert command in root.commands
        assert profile == "/etc/mirrorflow/profile.yaml"


@pytest.mark.parametrize(
    "unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name
)
def test_a_service_is_not_root_and_writes_below_its_state_directory_only(unit: Path) -> None:
    service = read(unit)["Service"]
    assert service["User"] == service["StateDirectory"] == "mirrorflow"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # What is installed elsewhere would be complained about as missing.
        text = re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "mirrorflow" in line]
    assert not ours, done.stderr
