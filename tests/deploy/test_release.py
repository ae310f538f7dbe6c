"""What a release is made from: the version, the notes, the locks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.release_notes import CHANGELOG, notes

ROOT = Path(__file__).parents[2]
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def pins(path: str) -> dict[str, str]:
    return dict(_PIN.findall((ROOT / path).read_text()))


def test_the_lock_of_the_image_is_a_part_of_the_lock() -> None:
    """One resolution: what is tested is what is shipped."""
    whole, part = pins("requirements.lock"), pins("deploy/requirements.lock")
    assert pins("deploy/build.lock").items() <= whole.items()
    assert part
    assert part.items() <= whole.items()
    assert "pytest" not in part


def test_both_locks_have_hashes_and_name_no_index() -> None:
    for name in ("requirements.lock", "deploy/requirements.lock", "deploy/build.lock"):
        text = (ROOT / name).read_text()
        assert text.count("--hash=sha256:") >= len(pins(name))
        assert not re.search(r"^-|://", text, re.MULTILINE)


LOG = """\
# Changelog

## [Unreleased]

- next

## [1.2.0] - 2026-12-01

### Added

- this

## [1.1.0] - x
- old
"""


@pytest.mark.parametrize(
    ("version", "found"),
    [
        pytest.param("1.2.0", "### Added\n\n- this\n", id="a release"),
        pytest.param("1.1.0", "- old\n", id="the oldest"),
        pytest.param("1.2.1.dev3+gabc", "- next\n", id="between two releases"),
    ],
)
def test_the_notes_of_a_version_are_its_section(version: str, found: str) -> None:
    assert notes(LOG, version) == found


def test_a_version_without_notes_is_not_released() -> None:
    with pytest.raises(ValueError, match="cut a section"):
        notes("# Changelog\n\n## [Unreleased]\n\n## [1.0.0]\n- x\n", "1.1.0")


def test_the_changelog_has_notes_for_what_comes_next() -> None:
    text = CHANGELOG.read_text()
    assert "\n## [Unreleased]\n" in text
    assert notes(text, re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)[-1])


def test_the_version_is_that_of_the_tag_and_has_a_fallback(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    assert _version(tmp_path) == "1.0.0.dev0"
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "-A")
    _git(tmp_path, "commit", "-qm", "x")
    _git(tmp_path, "tag", "v1.4.0")
    assert _version(tmp_path) == "1.4.0"
    (tmp_path / "README.md").write_text("changed\n")
    _git(tmp_path, "commit", "-qam", "y")
    assert _version(tmp_path).startswith("1.4.1.dev1+g")


def _version(folder: Path) -> str:
    command = [sys.executable, "-m", "hatchling", "version"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _git(folder: Path, *arguments: str) -> None:
    who = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "tag.gpgsign=false",
    ]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)
