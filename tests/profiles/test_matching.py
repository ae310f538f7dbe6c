"""zot's tables (pkg/extensions/sync/content_test.go and what its functions answered), in both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.matching import (
    listed_references,
    literal_repositories,
    local_name,
    mappings,
    matches_repository,
    needs_catalog,
    platforms_of,
    sources,
    upstream_name,
)
from profiles.model.content_rule import ContentRule
from registry_server.oci.digest import Digest
from tests.profiles.support import entry, rule

# local, prefix, destination, stripPrefix, remote
_BOTH_WAYS = [
    # TestContentManager
    ("alpine/zot-fold/alpine", "zot-fold/alpine", "/alpine", False, "zot-fold/alpine"),
    ("zot-fold/alpine", "zot-fold/alpine", "/", False, "zot-fold/alpine"),
    ("alpine", "zot-fold/alpine", "/alpine", True, "zot-fold/alpine"),
    ("alpine", "zot-fold/*", "/", True, "zot-fold/alpine"),
    ("alpine", "zot-fold/**", "/", True, "zot-fold/alpine"),
    ("zot-fold/alpine", "zot-fold/**", "/", False, "zot-fold/alpine"),
    # TestSyncWithDestination
    ("zot-test/zot-fold/zot-test", "zot-fold/zot-test", "/zot-test", False, "zot-fold/zot-test"),
    ("zot-fold/zot-test", "zot-fold/zot-test", "/", False, "zot-fold/zot-test"),
    ("zot-test", "zot-fold/zot-test", "/zot-test", True, "zot-fold/zot-test"),
    ("zot-test", "zot-fold/*", "/", True, "zot-fold/zot-test"),
    ("zot-test", "zot-fold/**", "/", True, "zot-fold/zot-test"),
    ("zot-fold/zot-test", "zot-fold/**", "/", False, "zot-fold/zot-test"),
    # the mirroring page
    ("repo1/repo", "/repo1/repo", "", False, "repo1/repo"),
    ("repo2", "/repo2/repo", "/repo2", True, "repo2/repo"),
    ("repo", "/repo1/repo", "/repo", True, "repo1/repo"),
    ("docker-images/alpine", "**", "/docker-images", False, "alpine"),
    ("docker-images/library/alpine", "**", "/docker-images", False, "library/alpine"),
    ("kube-proxy/kube-proxy", "**", "/kube-proxy", False, "kube-proxy"),
    # further answers of zot's functions
    ("x/b/c", "a/**", "/x", True, "a/b/c"),
    ("x", "a/**", "/x", True, "a"),
    ("abc", "abc/**", "/", True, "abc/abc"),
    ("any/thing", "/**", "/", False, "any/thing"),
    # where zot strips text instead of segments, and then finds no way back
    ("x/foo-1", "a/foo*", "/x", True, "a/foo-1"),
    ("x/alpine", "alp*", "/x", True, "alpine"),
    ("x/b/c", "a/*/c", "/x", True, "a/b/c"),
    ("x/foo/b", "a/**/b", "/x", True, "a/foo/b"),
    ("x/alpine", "library/{alpine,busybox}", "/x", True, "library/alpine"),
]


@pytest.mark.parametrize(("local", "prefix", "destination", "strip", "remote"), _BOTH_WAYS)
def test_a_repository_lands_where_it_should_and_is_found_again(
    *, local: str, prefix: str, destination: str, strip: bool, remote: str
) -> None:
    checked = rule(prefix, destination, strip)
    assert local_name(checked, remote) == local
    assert upstream_name(checked, local) == remote


@pytest.mark.parametrize(
    ("local", "prefix", "destination", "strip", "remote"),
    [
        # zot answers "/" here; validation refuses both rules.
        ("/", "zot-fold/alpine", "/", True, "zot-fold/alpine"),
        ("", "/", "/", True, "/"),
        ("other", "repo", "/mirror", False, "other"),
        ("docker-images", "**", "/docker-images", False, ""),
        ("docker-imagesX/alpine", "**", "/docker-images", False, ""),
        ("repo/x", "repo*", "", False, "repo/x"),
        ("repo/x", "repo**", "", False, "repo/x"),
        ("repo", "repo/", "", False, "repo"),
        ("repo", "//repo", "", False, "repo"),
    ],
)
def test_what_a_rule_does_not_take_has_no_name(
    *, local: str, prefix: str, destination: str, strip: bool, remote: str
) -> None:
    checked = rule(prefix, destination, strip)
    assert local_name(checked, remote) is None
    assert upstream_name(checked, local) is None


@pytest.mark.parametrize(
    ("local", "rules", "expected"),
    [
        (
            "alpine/zot-fold/alpine",
            [("zot-fold/alpine/", "/alpine", True), ("zot-fold/alpine", "/alpine", False)],
            [1],
        ),
        (
            "alpine/zot-fold/alpine",
            [("zot-fold/*", "/alpine", False), ("zot-fold/alpine", "/alpine", True)],
            [0],
        ),
        (
            "myFold/zot-fold/internal/alpine".lower(),
            [("zot-fold/alpine", "/alpine", True), ("zot-fold/**", "/myfold", False)],
            [1],
        ),
        ("alpine", [("zot-fold/*", "/alpine", True), ("zot-fold/alpine", "/", True)], []),
        ("alpine", [("zot-fold/*", "/alpine", True), ("zot-fold/*", "/", True)], [1]),
        ("alpine/alpine", [("zot-fold/*", "/alpine", True), ("zot-fold/*", "/", True)], [0]),
    ],
)
def test_content_is_found_by_its_local_name(
    local: str, rules: list[tuple[str, str, bool]], expected: list[int]
) -> None:
    """zot's TestGetContentByLocalRepo."""
    content = [rule(*row) for row in rules]
    assert [at for at, one in enumerate(content) if upstream_name(one, local)] == expected


def test_all_rules_with_one_prefix_apply() -> None:
    """The page's mixed example has /repo1/repo twice; zot does only the first."""
    both = entry(rule("/repo1/repo"), rule("/repo1/repo", "/repo", strip=True), rule("/repo2/repo"))
    assert [name for _, name in mappings(both, "repo1/repo")] == ["repo1/repo", "repo"]
    assert [name for _, name in sources(both, "repo")] == ["repo1/repo"]


def test_an_entry_without_content_takes_everything_on_demand() -> None:
    assert sources(entry(on_demand=True), "library/alpine") == ((None, "library/alpine"),)
    assert mappings(entry(), "library/alpine") == ()


def test_a_name_that_cannot_be_served_is_not_taken() -> None:
    assert local_name(rule("**"), "Upper/Case") is None
    assert local_name(rule("**", "/deep"), "a" * 252) is None


def test_listed_images_need_no_pattern() -> None:
    digest = Digest.of(b"")
    listed = ContentRule.model_validate(
        {"images": ["library/alpine:3.19", f"library/alpine@{digest}", "b:1"]}
    )
    assert literal_repositories(listed) == ("library/alpine", "b")
    assert listed_references(listed, "library/alpine") == ("3.19", digest)
    assert matches_repository(listed, "b")
    assert not matches_repository(listed, "c")
    assert not needs_catalog(entry(listed))


@pytest.mark.parametrize(
    ("prefix", "literal", "catalog"),
    [
        ("/library/alpine", ("library/alpine",), False),
        ("library/*", (), True),
        ("a/{b,c}", (), True),
        ("/", (), False),
    ],
)
def test_only_patterns_need_the_catalog(prefix: str, literal: tuple[str, ...], *, catalog: bool) -> None:
    assert literal_repositories(rule(prefix)) == literal
    assert needs_catalog(entry(rule(prefix))) is catalog


def test_a_rule_overrides_the_platforms_of_its_entry() -> None:
    one = entry(platforms=["linux/amd64"])
    assert [str(platform) for platform in platforms_of(one, rule("**"))] == ["linux/amd64"]
    assert platforms_of(one, rule("**", platforms=[])) == ()
    assert [str(p) for p in platforms_of(one, rule("**", platforms=["arm64"]))] == ["arm64"]
    assert [str(p) for p in platforms_of(one, None)] == ["linux/amd64"]


_SEGMENT = st.sampled_from(["a", "b", "ab", "foo-1", "x.y", "a0"])
_NAME = st.lists(_SEGMENT, min_size=1, max_size=4).map("/".join)
_GLOB_SEGMENT = st.sampled_from(["a", "b", "*", "**", "a*", "?", "[ab]", "{a,foo-1}", "*-*"])
_DESTINATION = st.sampled_from(["", "/", "/m", "m/n"])
_PREFIX = st.lists(_GLOB_SEGMENT, min_size=1, max_size=4).map("/".join)


@given(name=_NAME, prefix=_PREFIX, destination=_DESTINATION, strip=st.booleans())
def test_the_way_back_leads_to_where_it_came_from(
    *, name: str, prefix: str, destination: str, strip: bool
) -> None:
    checked = rule(prefix, destination, strip)
    local = local_name(checked, name)
    assert local is None or upstream_name(checked, local) == name


@given(name=_NAME, prefix=_PREFIX, destination=_DESTINATION, strip=st.booleans())
def test_the_way_there_leads_to_where_it_was_found(
    *, name: str, prefix: str, destination: str, strip: bool
) -> None:
    checked = rule(prefix, destination, strip)
    remote = upstream_name(checked, name)
    assert remote is None or local_name(checked, remote) == name
