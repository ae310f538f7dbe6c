"""The programs whose configuration can be imported; apart from them, for the command line's --help."""

from __future__ import annotations

from enum import StrEnum


class Program(StrEnum):
    REGSYNC = "regsync"
    SKOPEO = "skopeo"
    HARBOR = "harbor"
