"""Runs that write to other registries, and what these have afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from registry_server.oci.digest import Digest
from tests.tasks.runs import mirror, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.results.report import Report
    from tests.support.push_target import PushTarget
    from tests.support_misbehaving import Misbehaving

LAYER = b"layer " * 400_000  # 2.4 MB: sent as a stream


def sync_to(
    folder: Path,
    upstream: Misbehaving,
    target: PushTarget | str,
    *content: dict[str, Any],
    to: tuple[str, ...] = ("other",),
    destination: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    **entry: Any,
) -> Report:
    """A whole run into the destination `other`; `destination` are further keys of it."""
    url = target if isinstance(target, str) else target.url
    section = {"destinations": [{"name": "other", "url": url, **(destination or {})}], **(more or {})}
    with opened(folder, f"http://{upstream.host}", *content, to=to, more=section, **entry) as run:
        return mirror(run)


def assert_whole(target: PushTarget, repository: str, reference: str) -> None:
    """Every byte below a tag is there, and is what its digest says."""
    held = target.manifests[repository]
    pending = [reference]
    while pending:
        media_type, body = held[pending.pop()]
        document = json.loads(body)
        assert document.get("mediaType", media_type) == media_type
        for blob in [*document.get("layers", []), *filter(None, [document.get("config")])]:
            assert Digest.of(target.blobs[repository][blob["digest"]]) == blob["digest"]
        pending += [child["digest"] for child in document.get("manifests", [])]
