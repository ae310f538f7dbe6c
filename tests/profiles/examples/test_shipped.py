"""The profiles that come with the package, and the page that most of them are from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from profiles.errors import ProfileUnreadable
from profiles.examples.shipped import shipped_profile, shipped_profiles
from profiles.loader import load_profile
from profiles.loading.key_names import sections
from profiles.matching import mappings, sources
from tests.profiles.support import load, problems

_PAGES = Path(__file__).parent / "zot"
_FROM_THE_PAGE = ["migration", "polled-repositories", "on-demand-registries", "mixed-modes", "subpaths"]
# What is true of the page's examples on any machine but zot's own, and what is not there yet.
_EXPECTED = re.compile(
    r"http\.address|credentialsFile|certDir|onlySigned|onDemand|'4\.\*' must match the whole tag"
)


@pytest.mark.parametrize("name", shipped_profiles())
def test_each_loads(name: str) -> None:
    loaded = load_profile(shipped_profile(name))
    assert loaded.profile.sync.registries
    surprising = [str(warning) for warning in loaded.warnings if not _EXPECTED.search(str(warning))]
    assert surprising == []


def test_they_are_all_there() -> None:
    assert set(shipped_profiles()) == {*_FROM_THE_PAGE, "demo", "starter"}
    with pytest.raises(ProfileUnreadable, match="there are: demo, migration"):
        shipped_profile("../model")


@pytest.mark.parametrize("name", ["demo", "starter", "migration"])
def test_those_to_begin_with_give_nothing_to_worry_about(name: str) -> None:
    found = [
        warning for warning in load_profile(shipped_profile(name)).warnings if "onDemand" not in warning.path
    ]
    assert found == []


@pytest.mark.parametrize("name", _FROM_THE_PAGE)
def test_the_file_of_the_page_means_the_same(name: str) -> None:
    """zot's own file, JSON in camelCase with a port as text, loads unchanged and says what ours says."""
    theirs = load_profile(_PAGES / f"{name}.json", folder=Path("/")).profile
    ours = load_profile(shipped_profile(name), folder=Path("/")).profile
    assert theirs == ours


@pytest.mark.parametrize(
    ("name", "line", "column", "message"),
    [
        ("basic-broken", 23, 15, 'a comma is missing before "destination"'),
        ("polled-repositories-broken", 32, 3, "']' is missing: the list that begins on line 4, column 17"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["as-printed", "in-braces"])
def test_the_two_broken_snippets_of_the_page_are_located(
    name: str, line: int, column: int, message: str, *, wrapped: bool
) -> None:
    text = (_PAGES / f"{name}.json").read_text()
    found = problems("{" + text + "}" if wrapped else text, f"{name}.json")
    assert any(problem.startswith(f"{line}:{column}: {message}") for problem in found), found
    assert any("does not begin with '{'" in problem for problem in found) is not wrapped


def test_the_examples_do_what_the_page_says() -> None:
    polled, mixed, on_demand = (
        load_profile(shipped_profile(name)).profile.sync.registries
        for name in ("polled-repositories", "mixed-modes", "on-demand-registries")
    )
    assert [str(name) for _, name in mappings(polled[0], "repo2/repo")] == ["repo2"]
    assert [str(name) for _, name in mappings(polled[0], "repo3/repo")] == ["repo3/repo"]
    assert [str(name) for _, name in mappings(mixed[0], "repo1/repo")] == ["repo1/repo", "repo"]
    [(_, kubernetes)] = sources(on_demand[0], "k8s-images/kube-proxy")
    [(_, docker)] = sources(on_demand[1], "docker-images/alpine")
    assert on_demand[0].urls[0].repository(kubernetes) == "kube-proxy"
    assert on_demand[1].urls[0].repository(docker) == "library/alpine"


def _switched_on() -> str:
    """The starter with its commented examples switched on: they follow their '#' at once."""
    text = shipped_profile("starter").read_text()
    return re.sub(r"^( *)#(?=\S)|^( +)#(?=  )", r"\1\2", text, flags=re.MULTILINE)


def _keys(found: Any) -> set[str]:
    if isinstance(found, dict):
        return set(found).union(*map(_keys, found.values()))
    return set().union(*map(_keys, found)) if isinstance(found, list) else set()


def test_the_starter_shows_every_key_and_its_examples_load() -> None:
    text = _switched_on()
    shown = _keys(yaml.safe_load(text))
    for section, model in sections():
        # These have pages of their own: docs/trust.md, docs/upstreams.md, docs/access.md.
        if (
            section.startswith(("trust", "verify", "bundles.from"))
            or "oauth2" in section
            or "oidc" in section
        ):
            continue
        assert {info.alias for info in model.model_fields.values()} <= shown, section
    assert load(text, "starter.yaml").profile.sync.registries[0].content[1].images


def test_the_starter_sets_what_it_says_is_the_default() -> None:
    """A commented example for a key with a default is either that default or visibly another value."""
    document = yaml.safe_load(_switched_on())
    entry = document["sync"]["registries"][0]
    assert (entry["connectTimeout"], entry["readTimeout"], entry["reqConcurrent"]) == ("5s", "30s", 8)


def test_the_files_of_the_page_are_json() -> None:
    for path in _PAGES.glob("*.json"):
        if "broken" not in path.stem:
            assert json.loads(path.read_text())
