"""What the profile said of each deployment when it was last applied: a file in the store's Prefect folder.

A missing or broken file means that nothing is known: then nothing is taken away from a deployment.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final
from uuid import UUID

from flows.orchestration.deployment_changes import LastApplied
from registry_server.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE: Final = "deployments.json"


def read_record(home: Path) -> dict[UUID, LastApplied]:
    try:
        found = json.loads((home / FILE).read_text("utf-8"))
        return {
            UUID(identifier): LastApplied(tuple(map(str, each["tags"])), dict(each["job_variables"]))
            for identifier, each in found.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_record(home: Path, record: Mapping[UUID, LastApplied]) -> None:
    """Raises OSError."""
    text = json.dumps({str(identifier): asdict(each) for identifier, each in record.items()}, indent=1)
    home.mkdir(parents=True, exist_ok=True)
    write_whole(home / FILE, text.encode(), mode=0o600)  # job variables may be secrets
