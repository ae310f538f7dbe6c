"""The number of task runs follows what changed, and stays at a few hundred."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.run.grouping import GROUP, GROUPS, PACK_BYTES, SINGLES, group, label, pack
from tests.tasks.things import blob, image

MIB = 1 << 20


@pytest.mark.parametrize(
    ("members", "groups", "largest"),
    [
        pytest.param(0, 0, 0, id="nothing changed: no task run"),
        pytest.param(1, 1, 1, id="one"),
        pytest.param(SINGLES, SINGLES, 1, id="as many as a person can look at: each has its own"),
        pytest.param(SINGLES + 1, 11, GROUP, id="one more: groups, more than requests at once"),
        pytest.param(300, 15, GROUP, id="groups are large enough to outweigh what their task runs cost"),
        pytest.param(GROUP * GROUPS, GROUPS, GROUP, id="the most groups"),
        pytest.param(GROUP * GROUPS + 1, 58, GROUP + 1, id="from here on groups grow instead"),
        pytest.param(5000, GROUPS, 84, id="a large mirror"),
        pytest.param(100_000, GROUPS, 1667, id="a very large mirror has no more task runs than a large one"),
    ],
)
def test_small_runs_have_a_chain_per_image_and_large_ones_groups(
    members: int, groups: int, largest: int
) -> None:
    found = group(range(members))
    assert len(found) == groups
    assert max(map(len, found), default=0) == largest


@given(st.integers(0, 3000))
def test_grouping_loses_nothing_and_keeps_the_order(members: int) -> None:
    found = group(range(members))
    assert [member for each in found for member in each] == list(range(members))
    assert all(found)


@pytest.mark.parametrize(
    ("sizes", "packed"),
    [
        pytest.param([], [], id="nothing is missing"),
        pytest.param([1, 2, 3], [[3, 2, 1]], id="small ones share a task run"),
        pytest.param([PACK_BYTES], [[PACK_BYTES]], id="exactly a pack"),
        pytest.param([PACK_BYTES * 9, 1], [[PACK_BYTES * 9], [1]], id="a big one is alone, and comes first"),
        pytest.param([0, 0], [[0, 0]], id="empty blobs exist"),
        pytest.param([40 * MIB, 40 * MIB, 1], [[40 * MIB], [40 * MIB, 1]], id="two halves do not fit"),
    ],
)
def test_blobs_are_packed_so_that_a_task_run_is_worth_its_cost(
    sizes: list[int], packed: list[list[int]]
) -> None:
    blobs = [blob(str(number), size) for number, size in enumerate(sizes)]
    assert [[each.size for each in pack] for pack in pack(blobs)] == packed


def test_a_group_of_images_gets_bigger_packs() -> None:
    blobs = [blob(str(number), PACK_BYTES // 2) for number in range(8)]
    assert [len(each) for each in pack(blobs)] == [2, 2, 2, 2]
    assert [len(each) for each in pack(blobs, images=4)] == [8]


@given(st.lists(st.integers(0, 3 * PACK_BYTES), max_size=60))
def test_packing_loses_nothing_and_fills_no_pack_too_much(sizes: list[int]) -> None:
    blobs = {blob(str(number), size) for number, size in enumerate(sizes)}
    packs = pack(blobs)
    assert sorted(each.digest for found in packs for each in found) == sorted(each.digest for each in blobs)
    assert all(len(found) == 1 or sum(each.size for each in found) <= PACK_BYTES for found in packs)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["library/nginx:1.25"], "library/nginx:1.25"),
        (["library/nginx:1.25", "library/nginx:1.26"], "2 images of library/nginx"),
        (["library/nginx:1.25", "library/alpine:3"], "2 images of 2 repositories"),
    ],
)
def test_a_task_run_is_named_so_that_a_person_can_read_it(names: list[str], words: str) -> None:
    assert label([image(name) for name in names]) == words
