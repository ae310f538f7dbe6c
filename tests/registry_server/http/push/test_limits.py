from __future__ import annotations

import pytest

from registry_server.http.push.push_limits import LimitInvalid, PushLimits


def test_limits_survive_the_command_line() -> None:
    limits = PushLimits(blob_bytes=5, body_idle_seconds=0.25, session_idle_seconds=1.0, require_blobs=1)
    assert PushLimits.parse(limits.arguments()) == limits
    assert PushLimits().arguments() == []


@pytest.mark.parametrize(
    "text",
    ["blob_bytes", "blob_bytes=", "blob_bytes=-1", "blob_bytes=1.5", "unknown=1", "busy_seconds=nan", "=1"],
)
def test_what_is_no_limit_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(LimitInvalid, match="blob_bytes, spare_bytes"):
        PushLimits.parse([text])
