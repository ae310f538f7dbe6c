"""Versions in tags, as leniently as zot reads them (Masterminds semver v1: `v1`, `1.2`, `3.19-alpine`).

A tag has no rule to follow, so what stands behind a dash may be a pre-release (`1.2.0-rc.1`) or a variant
(`3.19-alpine`). Semantic versioning knows only the first, and both are read as pre-releases here.
"""

from __future__ import annotations

import re

from semver import Version

_LENIENT = re.compile(
    r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)
_MAX_NUMBER = 2**63 - 1  # zot reads each number into an int64; longer ones are no versions to it


def parse_version(tag: str) -> Version | None:
    """The version that `tag` spells, or None. Missing numbers are zero: `1.2` is 1.2.0."""
    found = _LENIENT.fullmatch(tag)
    if found is None:
        return None
    major, minor, patch = (int(number or 0) for number in found.group(1, 2, 3))
    if max(major, minor, patch) > _MAX_NUMBER:
        return None
    return Version(major, minor, patch, found[4], found[5])
