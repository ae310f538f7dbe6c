"""`python -m deploy.release_notes VERSION`: the section of CHANGELOG.md for a version."""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"
UNRELEASED = "Unreleased"


def notes(changelog: str, version: str) -> str:
    """Of a version that has no section yet (between two releases) what is under "Unreleased".

    Raises ValueError for a changelog without either.
    """
    sections = dict(
        re.findall(r"^## \[([^\]]+)\][^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    )
    wanted = version if version in sections else UNRELEASED
    if not sections.get(wanted, "").strip():
        raise ValueError(f"CHANGELOG.md has nothing for {version}: cut a section, as docs/releasing.md says")
    return f"{sections[wanted].strip()}\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m deploy.release_notes VERSION")
    try:
        sys.stdout.write(notes(CHANGELOG.read_text(), sys.argv[1]))
    except ValueError as error:
        sys.exit(f"error: {error}")
