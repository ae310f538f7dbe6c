"""The profiles that benchmarks mirror by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.harness.upstreams.content import ENTRY

if TYPE_CHECKING:
    from pathlib import Path


def write_profile(
    folder: Path,
    url: str,
    store: Path,
    *,
    http: dict[str, Any] | None = None,
    storage: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    **entry: Any,
) -> Path:
    """A profile with one registry entry; it takes everything unless `entry` has rules. `more`: sections."""
    document = {
        "storage": {"rootDirectory": str(store), **(storage or {})},
        "http": {"port": 0, **(http or {})},
        "sync": {"registries": [{"name": ENTRY, "urls": [url], "content": [{"prefix": "**"}], **entry}]},
        **(more or {}),
    }
    path = folder / "profile.json"
    path.write_text(json.dumps(document))
    return path
