"""Every shell block of the documents runs, and the JSON is what docs/reports.md says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.documents import DOCUMENTS, ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.flows.documents.conftest import Mirror

# Prefect leaves sockets of its clients unclosed; its own suite ignores the same two.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_STAND_IN = "https://quay.io"
_DOCUMENTS = [
    path for path in DOCUMENTS if any(each.language == "sh" and not each.info for each in blocks(path))
]


@pytest.fixture(scope="module")
def url(mirror: Mirror) -> Iterator[str]:
    with mirror.upstream_running() as url:
        yield url


@pytest.fixture
def folder(mirror: Mirror, tmp_path: Path) -> Path:
    """A folder as `make demo` leaves one; what an example makes in it is gone afterwards."""
    shutil.copytree(mirror.folder / "store", tmp_path / "store", ignore=shutil.ignore_patterns("prefect"))
    shutil.copy(mirror.profile, tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", _DOCUMENTS, ids=lambda path: path.name)
def test_the_examples_run(path: Path, folder: Path, mirror: Mirror, url: str) -> None:
    for block in blocks(path):
        if "file" in block.info:
            (folder / block.info["file"]).write_text(block.text.replace(_STAND_IN, url))
        if block.language == "sh" and "not-run" not in block.info:
            _run(block.text, block.id, folder, mirror)


MAPS = {
    "requests",
    "images[].signedBy",
    "droppedTags",
    "droppedExamples",
}  # the demo has no policy: tests/tasks/trust has signatures


def test_the_fields_of_reports_are_documented(mirror: Mirror) -> None:
    reports = mirror.store.reports.load_all()
    assert {report["state"] for report in reports} == {"complete", "failed"}
    found = {path for report in reports for path in _paths(report, "", maps=MAPS)}
    assert found == _documented("A report")


def test_the_report_that_is_shown_has_the_fields_of_a_real_one(mirror: Mirror) -> None:
    shown = next(block for block in blocks(ROOT / "docs/reports.md") if block.language == "json")
    real = next(each for each in mirror.store.reports.load_all() if each["images"])
    maps = {*MAPS, "images[].companions"}  # most images have none
    assert set(_paths(json.loads(shown.text), "", maps=maps)) == set(_paths(real, "", maps=maps))


def test_the_fields_of_status_are_documented(folder: Path, mirror: Mirror) -> None:
    found = json.loads(_run("mirrorflow status demo.yaml --json", "status", folder, mirror))
    assert set(_paths(found, "", maps={"runs", "policies"})) == _documented("`status --json`")


def test_the_fields_of_plan_are_documented(folder: Path, mirror: Mirror, url: str) -> None:
    maps = {"add", "follow", "leftOut", "refused", "droppedTags", "droppedExamples", "problems", "spent"}
    (found,) = json.loads(_run("mirrorflow plan demo.yaml --json", "plan", folder, mirror))
    of_images = {"image", "upstream", "digest", "companions", "becomes"}
    assert set(_paths(found, "", maps=maps)) == _documented("`plan --json`") - of_images


def _run(script: str, where: str, folder: Path, mirror: Mirror) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=mirror.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{where}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def _paths(value: Any, path: str, *, maps: set[str]) -> Iterator[str]:
    """`images[].digest` for every field; the keys below `maps` are data, not fields."""
    if path:
        yield path
    if path in maps:
        return
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _paths(below, f"{path}.{key}" if path else key, maps=maps)
    for element in value if isinstance(value, list) else ():
        yield from (each for each in _paths(element, f"{path}[]", maps=maps) if not each.endswith("[]"))


def _documented(heading: str) -> set[str]:
    """The fields in the first columns of the tables below a heading; of `a.b` also `a`."""
    text = (ROOT / "docs/reports.md").read_text()
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    names = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    return names | {re.split(r"\[\]|\.", name)[0] for name in names}
