"""The number of task runs follows what changed, and stays at some 150."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.run.grouping import (
    BIG_BLOBS,
    BIG_BYTES,
    CHAINS,
    PART,
    blob_label,
    chains,
    label,
    label_of_repositories,
    packs,
    parts,
)
from tasks.run.values import BlobCopy, Progress
from tests.tasks.things import blob, image, source

SOURCE, PROGRESS = source(), Progress(image())


@pytest.mark.parametrize(
    ("repositories", "groups", "largest"),
    [
        pytest.param(0, 0, 0, id="nothing to look at: no task run"),
        pytest.param(1, 1, 1, id="one"),
        pytest.param(CHAINS, CHAINS, 1, id="as many as a person can look at: each has its own"),
        pytest.param(CHAINS + 1, 13, 2, id="one more: two share a chain"),
        pytest.param(5000, CHAINS, 209, id="a large registry"),
        pytest.param(100_000, CHAINS, 4167, id="a very large registry has no more chains than a large one"),
    ],
)
def test_a_chain_serves_a_repository_and_very_many_share_chains(
    repositories: int, groups: int, largest: int
) -> None:
    found = chains([SOURCE] * repositories)
    assert len(found) == groups
    assert max(map(len, found), default=0) == largest


@pytest.mark.parametrize(
    ("images", "of", "cut"),
    [
        pytest.param(0, 1, [], id="nothing changed: no task run"),
        pytest.param(4, 1, [4], id="a small repository is one part"),
        pytest.param(PART + 1, 1, [PART, 1], id="a part is worth its task runs"),
        pytest.param(300, 1, [PART] * 6, id="parts of a big repository go side by side"),
        pytest.param(5000, 1, [209] * 23 + [193], id="a very big one has as many parts as chains"),
        pytest.param(300, 12, [150, 150], id="of many chains each has fewer parts"),
        pytest.param(300, CHAINS, [300], id="of the most chains each has one"),
    ],
)
def test_big_repositories_are_split(images: int, of: int, cut: list[int]) -> None:
    assert [len(each) for each in parts([PROGRESS] * images, of=of)] == cut


@given(st.integers(0, 30_000), st.integers(1, 2000))
def test_a_run_has_at_most_some_150_task_runs(repositories: int, images_each: int) -> None:
    groups = chains([SOURCE] * repositories)
    cut = sum(len(parts([PROGRESS] * min(len(each) * images_each, 9000), of=len(groups))) for each in groups)
    assert 1 + len(groups) + 4 * cut + BIG_BLOBS <= 155


@given(st.integers(0, 3000))
def test_grouping_loses_nothing_and_keeps_the_order(members: int) -> None:
    images = [Progress(image(f"app:{number}")) for number in range(min(members, 200))]
    assert [each for part in parts(images, of=3) for each in part] == images
    assert sum(map(len, chains([SOURCE] * members))) == members


def copies(*sizes: int) -> list[BlobCopy]:
    return [BlobCopy(blob(str(number), size), image()) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "packed"),
    [
        pytest.param([], [], id="nothing is missing"),
        pytest.param([1, 2, 3], [[3, 2, 1]], id="small ones share a task run"),
        pytest.param([BIG_BYTES, 1], [[BIG_BYTES], [1]], id="a big one is alone, and comes first"),
        pytest.param([0, 0], [[0, 0]], id="empty blobs exist"),
        pytest.param([BIG_BYTES] * 3, [[BIG_BYTES], [BIG_BYTES, BIG_BYTES]], id="more than may be alone"),
    ],
)
def test_big_blobs_are_copied_alone_as_far_as_a_run_may_have_such_task_runs(
    sizes: list[int], packed: list[list[int]]
) -> None:
    alone = 1 if sizes.count(BIG_BYTES) > 1 else 5
    assert [[each.blob.size for each in pack] for pack in packs(copies(*sizes), alone=alone)] == packed


@given(st.lists(st.integers(0, 3 * BIG_BYTES), max_size=60), st.integers(0, 40))
def test_packing_loses_nothing(sizes: list[int], alone: int) -> None:
    given_copies = copies(*sizes)
    found = packs(given_copies, alone=alone)
    assert sorted(each.blob.digest for pack in found for each in pack) == sorted(
        each.blob.digest for each in given_copies
    )
    assert len(found) <= alone + 1


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["library/nginx:1.25"], "library/nginx:1.25"),
        (["library/nginx:1.25", "library/nginx:1.26"], "library/nginx: 2 images"),
        (["library/nginx:1.25", "library/alpine:3"], "2 repositories: 2 images"),
    ],
)
def test_a_task_run_is_named_so_that_a_person_can_read_it(names: list[str], words: str) -> None:
    assert label([Progress(image(name)) for name in names]) == words


def test_the_names_of_searches_and_copies_say_what_of() -> None:
    assert label_of_repositories([source("apps/web")]) == "apps/web"
    assert label_of_repositories([SOURCE, source("apps/web")]) == "2 repositories"
    [big] = copies(120_000_000)
    assert blob_label([big]) == f"{big.blob.digest.short}, 120.0 MB, for library/nginx:1.25"
    assert blob_label(copies(1_000_000, 2_000_000)) == "library/nginx: 2 blobs, 3.0 MB"
