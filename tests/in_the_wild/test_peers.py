"""Where crane, regctl, oras and skopeo all succeed, so do we. Skipped where one of them is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.in_the_wild.cases.peers import PEERS
from tests.in_the_wild.test_mirrored import ROWS
from tests.support_misbehaving import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.in_the_wild.cases.rows import Row

ABSENT = [peer.name for peer in PEERS if not peer.installed]


@pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_all_four_peers_copy_is_mirrored(row: Row, tmp_path: Path) -> None:
    """`test_mirrored` holds what we copy; here it is compared. Each peer has an upstream of its own."""
    copied = []
    for peer in PEERS:
        with misbehaving() as upstream:
            row.arrange(upstream)
            folder = tmp_path / peer.name
            folder.mkdir()
            copied.append(peer.mirrored(upstream.host, sorted(upstream.repositories), folder))
    beyond = set.intersection(*copied) - set(row.mirrored)
    assert bool(beyond) is bool(row.unlike_peers), f"all four copy {sorted(beyond)}: {row.unlike_peers}"
