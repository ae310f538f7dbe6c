"""Which repositories the rules want, and what `only` may mean."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.list_catalog import choose_repositories, literal_names, names_behind, unusable_names
from tasks.run.only import is_asked_for, may_mean, repository_of
from tests.tasks.things import entry, source

HEX = "0" * 64


@pytest.mark.parametrize(
    ("content", "names", "chosen"),
    [
        pytest.param(
            [{"prefix": "library/*"}], ["library/a", "apps/b"], {"library/a": ["library/a"]}, id="glob"
        ),
        pytest.param(
            [{"prefix": "library/*"}, {"prefix": "library/a", "destination": "/keep"}],
            ["library/a"],
            {"library/a": ["library/a", "keep/library/a"]},
            id="every rule that matches applies",
        ),
        pytest.param([{"prefix": "**"}], ["b", "a", "a"], {"a": ["a"], "b": ["b"]}, id="in order, each once"),
        pytest.param([{"prefix": "**"}], ["a/../b", "A"], {}, id="what is no name is not asked for"),
        pytest.param([], ["a"], {}, id="no rule takes nothing"),
    ],
)
def test_a_repository_is_brought_to_every_place_that_a_rule_wants_it_in(
    content: list[dict[str, Any]], names: list[str], chosen: dict[str, list[str]]
) -> None:
    found = choose_repositories(entry(*content), names)
    assert {each.name: [target.local for target in each.targets] for each in found} == chosen


def test_literal_names_need_no_catalog() -> None:
    rules = entry(
        {"prefix": "tools/builder"}, {"prefix": "library/*"}, {"images": ["apps/web:1", "apps/web:2"]}
    )
    assert literal_names(rules) == ["apps/web", "tools/builder"]


def test_names_that_a_rule_means_but_nobody_can_ask_for_are_found() -> None:
    names = ["library/nginx", "library/../etc", "library/Upper", "other/Upper"]
    assert unusable_names(entry({"prefix": "library/**"}), names) == ["library/../etc", "library/Upper"]


@pytest.mark.parametrize(
    ("item", "names"),
    [
        pytest.param("mirror/nginx:1.25", ["library/nginx", "mirror/nginx"], id="our name leads to theirs"),
        pytest.param("library/nginx:1.25", ["library/nginx"], id="their name"),
        pytest.param("mirror/nginx", ["library/nginx", "mirror/nginx"], id="a whole repository"),
        pytest.param(f"mirror/nginx@sha256:{HEX}", ["library/nginx", "mirror/nginx"], id="a digest"),
    ],
)
def test_only_may_name_an_image_as_it_is_called_here_or_there(item: str, names: list[str]) -> None:
    rules = entry({"prefix": "library/*", "destination": "/mirror", "stripPrefix": True})
    assert names_behind(rules, [item]) == names


@pytest.mark.parametrize(
    ("item", "repository"),
    [("a/b:1", "a/b"), (f"a/b@sha256:{HEX}", "a/b"), (f"a/b:1@sha256:{HEX}", "a/b"), ("a/b", "a/b")],
)
def test_the_repository_of_an_image_is_what_stands_before_tag_and_digest(item: str, repository: str) -> None:
    assert repository_of(item) == repository


@pytest.mark.parametrize(
    ("only", "asked"),
    [
        pytest.param([], True, id="nothing in particular: all of it"),
        pytest.param(["mirror/nginx:1"], True, id="our name"),
        pytest.param(["library/nginx:1"], True, id="their name"),
        pytest.param(["library/nginx"], True, id="the whole repository"),
        pytest.param(["library/nginx:11"], False, id="another tag that begins alike"),
        pytest.param(["library/nginx-more"], False, id="another repository that begins alike"),
    ],
)
def test_only_asks_for_images_by_any_of_their_names(only: list[str], asked: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_asked_for(frozenset(only), "mirror/nginx:1", "library/nginx:1") is asked


def test_an_item_may_mean_a_repository_by_its_name_there_or_here() -> None:
    found = source("library/nginx", {"prefix": "**", "destination": "/mirror"})
    assert may_mean("library/nginx:1", found)
    assert may_mean("mirror/library/nginx:1", found)
    assert not may_mean("mirror/library:1", found)
