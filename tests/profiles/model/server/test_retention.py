"""`storage.retention`: zot's words, what the store makes of them, and what the profile is warned about."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiles.model.server.retention import KeepTags
from registry_server.store.gc.retention import Candidate, RepositoryRetention, RetentionLimits
from registry_server.store.gc.retention import KeepTags as Rule
from tests.profiles.support import load, warnings

NOW = 1e9
DAY = 86400.0

# The first example of zot's page on retention, with both keys for untagged manifests.
ZOT = """
storage:
  rootDirectory: /s
  gc: true
  gcDelay: 2h
  retention:
    dryRun: false
    delay: 24h
    policies:
      - repositories: ["infra/*", "tmp/**"]
        deleteReferrers: false
        deleteUntagged: true
        keepTags:
          - patterns: ["v2.*", ".*-prod"]
          - patterns: ["v3.*", ".*-prod"]
            pulledWithin: 168h
          - mostRecentlyPushedCount: 10
            mostRecentlyPulledCount: 0
            pushedWithin: 720h
        keepUntagged: {pulledWithin: 720h}
      - repositories: ["**"]
        keepTags: [{}]
  subPaths:
    /other: {rootDirectory: other, gc: false}
sync: {registries: [{urls: [https://r.example], onDemand: true}]}
"""


def test_zots_own_example_is_understood() -> None:
    options = load(ZOT).profile.storage.gc_options()
    main, other = options[Path("/s")], options[Path("/s/other")]
    assert (main.enabled, main.delay, main.retention.delay, main.retention.dry_run) == (
        True,
        7200.0,
        86400.0,
        False,
    )
    assert not other.enabled
    infra = main.retention.policy("infra/web")
    assert not infra.delete_referrers
    assert infra.delete_untagged
    assert infra.keep_untagged == RetentionLimits(pulled_within=720 * 3600.0)
    assert [rule.limits for rule in infra.keep_tags] == [
        RetentionLimits(),
        RetentionLimits(pulled_within=168 * 3600.0),
        RetentionLimits(pushed_within=720 * 3600.0, most_recently_pushed=10),
    ]
    assert main.retention.policy("tmp/a/b") == infra
    assert main.retention.policy("infra/a/b") != infra
    assert main.retention.policy("infra/a/b").expired_tags([Candidate("x", 0.0, 0.0)], NOW) == {}


def test_without_a_policy_all_tags_stay() -> None:
    text = "storage: {rootDirectory: /s}\nsync: {registries: [{urls: [https://r.example], onDemand: true}]}"
    retention = load(text).profile.storage.gc_options()[Path("/s")].retention
    assert retention.policy("any").expired_tags([Candidate("x", 0.0, 0.0)], NOW) == {}


@pytest.mark.parametrize(
    ("patterns", "tag", "taken"),
    [
        ((), "anything", True),
        (("v2.*",), "v2.1", True),
        (("v2",), "rev2-old", True),  # zot looks for it anywhere: what it keeps is kept here too
        (("^v2$",), "v2.1", False),
        (("a", "b"), "b", True),
    ],
)
def test_a_pattern_occurs_anywhere_in_the_tag(patterns: tuple[str, ...], tag: str, *, taken: bool) -> None:
    assert KeepTags.model_validate({"patterns": patterns}).takes(tag) is taken


TAGS = [
    Candidate("old", pushed=NOW - 90 * DAY, pulled=0.0),
    Candidate("pulled", pushed=NOW - 80 * DAY, pulled=NOW - 1 * DAY),
    Candidate("recent", pushed=NOW - 2 * DAY, pulled=0.0),
    Candidate("today", pushed=NOW, pulled=0.0),
]


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (RetentionLimits(), {"old", "pulled", "recent", "today"}),
        (RetentionLimits(pushed_within=3 * DAY), {"recent", "today"}),
        (
            RetentionLimits(pulled_within=DAY),
            {"pulled", "today"},
        ),  # what was never pulled counts from its push
        (RetentionLimits(most_recently_pushed=1), {"today"}),
        (RetentionLimits(most_recently_pulled=2), {"today", "pulled"}),
        (RetentionLimits(most_recently_pushed=1, pulled_within=DAY), {"today", "pulled"}),  # one is enough
        (RetentionLimits(most_recently_pushed=9), {"old", "pulled", "recent", "today"}),
    ],
)
def test_what_meets_one_of_the_limits_stays(limits: RetentionLimits, kept: set[str]) -> None:
    assert limits.kept(TAGS, NOW) == kept


def test_the_first_rule_whose_patterns_take_a_tag_decides() -> None:
    policy = RepositoryRetention(
        keep_tags=(
            Rule(lambda tag: tag.startswith("o"), RetentionLimits(pushed_within=DAY)),
            Rule(lambda tag: len(tag) < 6, RetentionLimits()),
        )
    )
    assert policy.expired_tags(TAGS, NOW) == {
        "old": "keepTags[0] does not keep it",
        "pulled": "no keepTags pattern takes it",
        "recent": "no keepTags pattern takes it",
    }


def profile_with(retention: str, content: str, sub_paths: str = "{}") -> str:
    return (
        f"storage: {{rootDirectory: /s, subPaths: {sub_paths}, retention: {retention}}}\n"
        f"sync: {{registries: [{{urls: [https://r.example], pollInterval: 6h, content: [{content}]}}]}}"
    )


@pytest.mark.parametrize(
    ("repositories", "keep", "rule", "word"),
    [
        ("**", "{mostRecentlyPushedCount: 3}", "{prefix: a}", "may delete tags of 'a'"),
        ("**", "{patterns: ['v.*']}", "{prefix: a/*}", "may delete tags of 'a/example'"),
        ("x/**", "{patterns: [v]}", "{prefix: a, destination: /x}", "may delete tags of 'x/a'"),
        ("**", "{patterns: [v]}", "{images: ['a:1', 'a:v1']}", "may delete the tag '1' of 'a'"),
        # What keeps everything that the rule takes is nothing to be warned about.
        ("**", "{patterns: ['.*']}", "{prefix: a}", ""),
        ("**", "{}", "{prefix: a}", ""),
        ("**", "", "{prefix: a}", ""),
        ("b/**", "{patterns: [v]}", "{prefix: a}", ""),
        ("**", "{patterns: ['^v.*']}", "{prefix: a, tags: {regex: '^v.*'}}", ""),
        ("**", "{patterns: [v]}", "{images: ['a:v1']}", ""),
    ],
)
def test_retention_that_works_against_polling_is_warned_about(
    repositories: str, keep: str, rule: str, word: str
) -> None:
    policy = f"{{repositories: ['{repositories}'], keepTags: [{keep}]}}"
    found = warnings(profile_with(f"{{policies: [{policy}]}}", rule))
    assert len(found) == bool(word)
    assert all(word in each and "brings back" in each for each in found)


def test_only_the_first_policy_that_matches_is_looked_at() -> None:
    policies = "{repositories: [a], keepTags: [{}]}, {repositories: ['**'], keepTags: [{patterns: [v]}]}"
    assert warnings(profile_with(f"{{policies: [{policies}]}}", "{prefix: a}")) == []


def test_the_policies_of_a_subpath_are_for_its_repositories() -> None:
    policy = "{policies: [{repositories: ['**'], keepTags: [{patterns: [v]}]}]}"
    sub_paths = f"{{/a: {{rootDirectory: a, retention: {policy}}}}}"
    found = warnings(profile_with("{}", "{prefix: a/b}, {prefix: c/d}", sub_paths))
    assert len(found) == 1
    assert "storage.subPaths./a.retention.policies[0]: may delete tags of 'a/b'" in found[0]
