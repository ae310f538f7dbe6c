"""On demand, a tag that is here is looked at by HEAD; an upstream that refuses HEAD is asked by GET."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.on_demand.mirrors import document, mirroring
from tests.support_behaviours import get_only

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

APP = "library/app"
MANIFEST = f"/v2/{APP}/manifests/1"


@pytest.mark.parametrize(
    ("status", "source"),
    [
        (400, "carvel-dev/imgpkg 149"),
        (403, "crossplane/crossplane 3223"),
        (404, "nicholas-fedor/watchtower 669: a 404 to HEAD read as 'nothing new'"),
        (405, "distribution/distribution 1485"),
        (406, "merll/docker-registry-util 3"),
        (500, "carvel-dev/imgpkg 149"),
    ],
)
def test_a_tag_that_moved_is_seen_although_head_is_refused(
    tmp_path: Path, upstream: Misbehaving, status: int, source: str
) -> None:
    before = upstream.add_image(APP, "1").manifest.digest
    upstream.on(MANIFEST, get_only(status))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        first = mirror.client.get(MANIFEST)
        mirror.work.wait()
        same = mirror.client.get(MANIFEST)
        moved = upstream.add_image(APP, "1", layers=(b"another",)).manifest.digest
        after = mirror.client.get(MANIFEST)
    assert [each.headers["Docker-Content-Digest"] for each in (first, same, after)] == [before, before, moved]
    assert all("Warning" not in each.headers for each in (first, same, after)), source
