"""A registry of which a mirror takes some, leaves some, and fails at some; and the ways to run its entry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flows.direct_run import run_direct
from registry_server.oci.media_types import OCI_MANIFEST
from tests.support_behaviours import answers
from tests.support_misbehaving import well_behaved

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

PROBLEM = "{}: apps/hidden: 403 Forbidden"


def write(folder: Path, upstream: Misbehaving, processes: int = 1, *rules: dict[str, Any]) -> Path:
    entry = {
        "name": "up",
        "urls": [f"http://{upstream.host}"],
        "content": rules or [{"prefix": "**"}],
        "maxRetries": 2,
        "retryDelay": "0.1s",
    }
    profile = folder / "profile.json"
    document = {
        "storage": {"rootDirectory": "store"},
        "sync": {"processes": processes, "registries": [entry]},
    }
    profile.write_text(json.dumps(document))
    return profile


def fill(upstream: Misbehaving) -> None:
    """Every outcome: copied, shared blobs, left out, failed for good, failed once, not to be listed."""
    for number in range(6):
        upstream.add_image(f"apps/web{number % 2}", f"1.{number}", (b"base", b"layer %d" % number))
    upstream.add_manifest("apps/web0", "broken", b'{"schemaVersion": 2, "layers": "none"}', OCI_MANIFEST)
    upstream.add_manifest(
        "apps/web1", "old", b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"
    )
    slow = upstream.add_image("apps/slow", "1", (b"slow",))
    upstream.on(f"/v2/apps/slow/blobs/{slow.layers[0].digest}", answers(500), well_behaved)
    sick = upstream.add_image("apps/sick", "1", (b"sick",))
    upstream.on(f"/v2/apps/sick/blobs/{sick.layers[0].digest}", answers(403))
    upstream.add_image("apps/hidden", "1")
    upstream.on("/v2/apps/hidden/tags/list", answers(403))


def by_threads(profile: Path) -> tuple[str, str]:
    return run_direct(profile, "up")


def by_prefect(profile: Path) -> tuple[str, str]:
    from flows.mirror_registry import mirror_registry

    state: Any = mirror_registry(str(profile), "up", None, return_state=True)
    return state.type.value, state.message
