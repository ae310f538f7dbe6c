"""On demand, what passes within seconds is waited for while the client waits; what takes longer is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.on_demand.mirrors import document, mirroring
from tests.support_behaviours import answers, resets, says, well_behaved

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Behaviour, Misbehaving

APP = "library/app"
MANIFEST = f"/v2/{APP}/manifests/1"


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(says(429, "TOOMANYREQUESTS", "slow down"), id="429, RFC 6585"),
        pytest.param(answers(429, Retry_After="1"), id="429 with a time"),
        pytest.param(answers(503, Retry_After="1"), id="503 with a time, RFC 9110"),
        pytest.param(resets, id="a reset"),
    ],
)
def test_a_miss_waits_for_what_passes(tmp_path: Path, upstream: Misbehaving, behaviour: Behaviour) -> None:
    upstream.add_image(APP, "1")
    upstream.on(MANIFEST, behaviour, well_behaved)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        assert mirror.client.get(MANIFEST).status_code == 200
        mirror.work.wait()


def test_clients_are_told_how_long_an_upstream_wants_to_be_left_alone(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """And the upstream is not asked in between, for whichever image."""
    for tag in ("1", "2"):
        upstream.add_image(APP, tag)
        upstream.on(f"/v2/{APP}/manifests/{tag}", answers(429, Retry_After="3600"))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        for tag in ("1", "2"):
            got = mirror.client.get(f"/v2/{APP}/manifests/{tag}")
            assert got.status_code == 503
            assert int(got.headers["Retry-After"]) > 3000
    assert len(upstream.requests(path="/manifests/")) == 1
