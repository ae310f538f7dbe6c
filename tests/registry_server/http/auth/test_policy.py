"""Who may do what: zot's rules, as a table; and what a profile makes of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.loader import parse_profile
from profiles.matching import upstream_name
from profiles.patterns.globs import Glob
from profiles.server_options import server_options
from registry_server.http.auth.access_options import AccessOptions, AccessUnusable, Tokens
from registry_server.http.auth.access_rules import ALL, READ, AccessRules, Actions, Grant, RepositoryRule
from tests.profiles.support import warnings
from tests.registry_server.http.auth.support import options_of

CREATE: Actions = frozenset({"create"})


def _rule(pattern: str, *grants: Grant, signed_in: Actions = READ - READ, anonymous: Actions = READ - READ,
          over_mirrored: bool = False) -> RepositoryRule:  # fmt: skip
    regex = re.compile(Glob.parse(pattern).expression)
    return RepositoryRule(pattern, regex, grants, signed_in, anonymous, over_mirrored)


POLICY = AccessRules(
    rules=(
        _rule("**", anonymous=READ),
        _rule("team/**", Grant(frozenset({"alice"}), frozenset({"devs"}), READ | CREATE), signed_in=READ),
        _rule("team/secret", Grant(frozenset({"carol"}), actions=READ)),
        _rule("mirror/**", Grant(frozenset({"alice"}), actions=ALL)),
        _rule("mirror/own/**", Grant(frozenset({"alice"}), actions=ALL), over_mirrored=True),
    ),
    admins=Grant(frozenset({"root"}), frozenset({"ops"}), ALL),
    groups={"devs": frozenset({"bob"}), "ops": frozenset({"oscar"})},
    observers=frozenset({"prometheus"}),
    mirrored=(re.compile(Glob.parse("mirror/**").expression),),
)


@pytest.mark.parametrize(
    ("user", "repository", "rights"),
    [
        ("", "any/thing", READ),
        ("zoe", "any/thing", READ),  # who signs in keeps what is everybody's
        ("", "team/app", READ - READ),  # the longest pattern decides, and no other
        ("zoe", "team/app", READ),
        ("alice", "team/app", READ | CREATE),
        ("bob", "team/app", READ | CREATE),  # by group
        ("alice", "team/secret", READ - READ),
        ("carol", "team/secret", READ),
        ("root", "team/secret", ALL),
        ("oscar", "team/secret", ALL),  # an admin by group
        ("alice", "mirror/app", READ),  # the mirror writes there
        ("root", "mirror/app", READ),  # also for admins
        ("alice", "mirror/own/app", ALL),  # allowed in so many words
        ("root", "mirror/own/app", ALL),
        ("ops", "team/secret", READ - READ),  # a group is no user
        ("", "team", READ - READ),  # `team/**` takes `team`
        ("", "teams", READ),
    ],
)
def test_the_policy_decides(user: str, repository: str, rights: Actions) -> None:
    assert POLICY.rights(user, repository) == rights


def test_a_repository_that_no_pattern_takes_is_the_admins() -> None:
    policy = AccessRules(rules=(_rule("a"),), admins=POLICY.admins)
    assert policy.rights("zoe", "b") == frozenset()
    assert policy.rights("root", "b") == ALL
    assert AccessRules().rights("", "") == frozenset()


def test_admins_are_users() -> None:
    assert POLICY.is_admin("oscar")
    assert not POLICY.is_admin("")
    assert not AccessRules(admins=Grant(frozenset({""}), actions=ALL)).is_admin("")
    assert AccessRules(admins=Grant(frozenset({""}), actions=ALL)).rights("", "a") == frozenset()


def test_options_survive_the_way_to_the_server() -> None:
    given = AccessOptions(POLICY, Path("/p"), Tokens(Path("/k"), "s", 60.0), 0.5, "https://r")
    assert AccessOptions.from_json(given.to_json()) == given
    assert AccessOptions.from_json(AccessOptions(tokens=None).to_json()) == AccessOptions(tokens=None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"policy": 1}', "null"])
def test_options_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(AccessUnusable):
        AccessOptions.from_json(text)
    with pytest.raises(AccessUnusable, match="none"):
        AccessOptions.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("http", "controlled", "writable"),
    [
        ("address: 127.0.0.1", False, False),
        ("auth: {htpasswd: {path: h}}", True, False),
        ("accessControl: {repositories: {'**': {anonymousPolicy: [read]}}}", True, False),
        ("accessControl: {repositories: {'**': {anonymousPolicy: [read, create]}}}", True, True),
        ("accessControl: {repositories: {'**': {defaultPolicy: [delete]}}}", True, True),
        ("accessControl: {repositories: {'**': {policies: [{users: [a], actions: [update]}]}}}", True, True),
        ("accessControl: {adminPolicy: {users: [a], actions: [create]}}", True, True),
    ],
)
def test_clients_write_only_where_the_profile_lets_somebody(
    tmp_path: Path, http: str, *, controlled: bool, writable: bool
) -> None:
    options = options_of(tmp_path, http)
    assert (options.access is not None, options.writable) == (controlled, writable)


def test_signing_in_alone_means_that_users_read(tmp_path: Path) -> None:
    access = options_of(tmp_path, "auth: {htpasswd: {path: h}}").access
    assert access is not None
    assert (access.policy.rights("zoe", "a/b"), access.policy.rights("", "a/b")) == (READ, frozenset())
    assert access.htpasswd == tmp_path / "h"


_RULES = [
    "{prefix: library/alpine}",
    "{prefix: 'library/*', destination: /mirror}",
    "{prefix: 'a/b/**', destination: /x, stripPrefix: true}",
    "{prefix: 'a/{b,c}/d', stripPrefix: true}",
    "{prefix: a/b, destination: /y, stripPrefix: true}",
    "{prefix: '/kube-*'}",
    "{images: ['team/app:1', 'team/tool:2'], destination: /z}",
    "{images: ['a/b:1'], prefix: 'a/*', destination: /w, stripPrefix: true}",
]
_SEGMENT = st.sampled_from(
    [
        "library",
        "alpine",
        "mirror",
        "a",
        "b",
        "c",
        "d",
        "x",
        "y",
        "z",
        "w",
        "kube-proxy",
        "team",
        "app",
        "tool",
    ]
)


@pytest.mark.parametrize("rule", _RULES)
@given(name=st.lists(_SEGMENT, min_size=1, max_size=4).map("/".join))
def test_what_a_content_rule_fills_is_what_the_server_guards(rule: str, name: str) -> None:
    text = (
        "storage: {rootDirectory: /s}\nhttp: {accessControl: {repositories: {}}}\n"
        f"sync: {{registries: [{{urls: [r], pollInterval: 1h, content: [{rule}]}}]}}"
    )
    profile = parse_profile(text, Path("p.yaml")).profile
    access = server_options(profile).access
    assert access is not None
    fills = upstream_name(profile.sync.registries[0].content[0], name) is not None
    assert access.policy.is_mirrored(name) is fills


_HEAD = """\
storage: {rootDirectory: /s}
sync: {registries: [{urls: [r], pollInterval: 1h, content: [{prefix: a}]}]}
"""


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        ("{address: 127.0.0.1}", []),
        ("{address: '::1'}", []),
        ("{address: localhost}", []),
        ("{address: 0.0.0.0}", ["without TLS and without signing in: everyone there can read everything"]),
        ("{address: '::'}", ["http.address: other machines reach ::, without TLS"]),
        ("{address: 0.0.0.0, tls: {cert: c, key: k}}", ["without signing in: everyone"]),
        ("{address: 0.0.0.0, tls: {cert: c, key: k, cacert: a}}", []),
        (
            "{address: 10.0.0.1, auth: {htpasswd: {path: /none}}}",
            ["passwords and tokens travel in the clear", "htpasswd.path: there is no file /none"],
        ),
        ("{accessControl: {adminPolicy: {users: [a]}}}", ["names users, and no user can sign in"]),
        (
            "{accessControl: {repositories: {'**': {anonymousPolicy: [create]}}}}",
            ["everyone who reaches the server may write here, without signing in"],
        ),
        (
            "{auth: {htpasswd: {path: /dev/null}}, accessControl: {adminPolicy: {groups: [h]}}}",
            ["htpasswd.path: there is no file", "there is no group 'h'"],
        ),
        (
            "{accessControl: {repositories: {'**': {policies: [{groups: [g]}]}}}}",
            ["names users, and no user can sign in", "there is no group 'g'"],
        ),
    ],
)
def test_an_open_door_is_warned_about(http: str, expected: list[str]) -> None:
    found = warnings(f"{_HEAD}http: {http}\n")
    assert len(found) == len(expected), found
    for warning, part in zip(found, expected, strict=True):
        assert part in warning
