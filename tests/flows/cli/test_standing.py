"""When the upstream was last asked for a tag: what `status` calls checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flows.reporting.tag_status import tag_statuses
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import Origin, PollRecord, TagRecord
from registry_server.store.store import Store
from tests.registry_server.store.images import put_image

if TYPE_CHECKING:
    from pathlib import Path

PUSHED, POLLED = 1000.0, 2000.0  # unix seconds
NAME = RepositoryName("team/app")
ON_DEMAND = Origin("team", NAME, Digest.of(b"upstream"), on_demand=True)


@pytest.mark.parametrize(
    ("origin", "polls", "checked"),
    [
        pytest.param(ON_DEMAND, (), PUSHED, id="what came on demand was asked for when it came"),
        pytest.param(ON_DEMAND, (PollRecord("team", POLLED),), POLLED, id="a poll looked at it since"),
        pytest.param(None, (), None, id="what a client pushed has no upstream"),
    ],
)
def test_a_tag_was_checked_when_its_upstream_was_last_asked(
    tmp_path: Path, origin: Origin | None, polls: tuple[PollRecord, ...], checked: float | None
) -> None:
    store = Store.open(tmp_path)
    repository = store.repository(NAME)
    made = put_image(repository, b"layer")
    repository.put_tag(Tag("1"), TagRecord(made.digest, made.media_type, made.size, PUSHED, origin))
    for poll in polls:
        repository.put_poll(poll)
    assert [row.last_check for row in tag_statuses(store)] == [checked]
