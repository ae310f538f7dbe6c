"""Which shard of a registry entry a repository belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.values.shard import Shard, ShardInvalid, shard_index


@pytest.mark.parametrize(
    ("repository", "of", "index"),
    [
        pytest.param("library/nginx", 1, 0, id="one shard has everything"),
        pytest.param("library/nginx", 4, 1, id="its SHA-256 is 3d67...8359"),
        pytest.param("library/redis", 4, 1, id="two names in one shard: 4099...8a55"),
        pytest.param("library/nginx", 1000, 113, id="as many as there may be"),
        pytest.param("library/redis", 1000, 525, id="another name, another shard"),
    ],
)
def test_the_hash_stays_as_it_is(repository: str, of: int, index: int) -> None:
    """Workers of two versions of mirrorflow share a store: another hash would leave repositories out."""
    assert shard_index(repository, of) == index


@given(repository=st.text(max_size=80).filter(lambda text: text.isascii()), of=st.integers(1, 1000))
def test_every_repository_belongs_to_exactly_one_shard(repository: str, of: int) -> None:
    assert sum(Shard(number, of).owns(repository) for number in range(1, of + 1)) == 1


def test_shards_are_of_about_the_same_size() -> None:
    sizes = [0] * 8
    for number in range(8000):
        sizes[shard_index(f"team-{number % 40}/app-{number}", 8)] += 1
    assert min(sizes) > 850
    assert max(sizes) < 1150


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0/4", id="numbers begin with 1"),
        pytest.param("5/4", id="there are only four"),
        pytest.param("1/1001", id="more than there may be"),
        pytest.param("1", id="of how many?"),
        pytest.param("1/4\n", id="a line end"),
        pytest.param("01/4", id="a leading zero: two names for one shard"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ShardInvalid, match="'2/4'"):
        Shard.parse(text)


@given(of=st.integers(1, 1000), data=st.data())
def test_what_is_written_is_read_back(of: int, data: st.DataObject) -> None:
    shard = Shard(data.draw(st.integers(1, of)), of)
    assert Shard.parse(str(shard)) == shard


def test_an_entry_that_is_not_divided_has_no_shard() -> None:
    assert Shard.all_of(1) == (None,)
    assert [str(each) for each in Shard.all_of(3)] == ["1/3", "2/3", "3/3"]
