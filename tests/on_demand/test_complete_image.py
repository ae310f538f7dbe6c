"""The rest of an image, behind the client: what waiting requests are told when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.complete_image import complete_image
from tasks.on_demand.work import do
from tasks.run.values import Image
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.runs import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.oci.digest import Digest

import pytest


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        yield found


@pytest.mark.parametrize("gone", [False, True], ids=["it is there", "its manifest is gone"])
def test_no_blob_counts_as_stored_because_its_image_could_not_be_read(
    upstream: Misbehaving, tmp_path: Path, *, gone: bool
) -> None:
    """`claimed` is told what is fetched; requests for all other blobs of the image look in the store."""
    made = upstream.add_image("app", "1", (b"layer",)).manifest
    if gone:
        upstream.repositories["app"].manifests.clear()
    image = Image("app", RepositoryName("app"), Tag("1"), made.digest, made.media_type)
    claimed: list[set[Digest]] = []
    published: list[bool] = []
    with opened(tmp_path, f"http://{upstream.host}") as run:
        do(complete_image(run, image, claimed=claimed.append, then=lambda: published.append(True)))
    assert (len(claimed), published) == ((0, []) if gone else (1, [True]))
