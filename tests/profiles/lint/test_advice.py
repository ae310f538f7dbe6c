"""Warnings: what a profile may say, and probably does not mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from profiles.errors import Severity
from profiles.patterns.zot_regex import differs_from_full_match, to_full_match, to_search
from tests.profiles.support import load, warnings

if TYPE_CHECKING:
    from pathlib import Path

_STORAGE = "storage: {rootDirectory: /s}\n"
_SYNC = "\nsync: {registries: [{urls: [r], pollInterval: 1h, content: [{prefix: a}]}]}"


def _entries(*entries: str, head: str = "") -> str:
    """A profile with these registry entries in YAML's flow style, all polled unless they say otherwise."""
    lines = "".join(
        f"    - {{urls: ['https://r{n}'], pollInterval: 1h, {e}}}\n" for n, e in enumerate(entries)
    )
    return f"{_STORAGE}sync:\n{head}  registries:\n{lines}"


def _one(urls: str, rest: str) -> str:
    return f"{_STORAGE}sync:\n  registries:\n    - {{urls: {urls}, {rest}}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_STORAGE, ["sync: nothing is mirrored; add registry entries"]),
        (
            _STORAGE + "notify: [{name: a, url: 'http://hooks.example/x', secretFile: /none}]" + _SYNC,
            [
                "notify[0].url: what is told to hooks.example can be read",
                "notify[0].secretFile: there is no file",
            ],
        ),
        (_STORAGE + "notify: [{name: a, url: 'http://127.0.0.1:9/x'}]" + _SYNC, []),
        (_STORAGE + "extensions:\n", ["sync: nothing is mirrored; add registry entries"]),
        (_one("[https://r]", "content: [{prefix: a}]"), []),  # for `mirrorflow sync`, run by cron
        (_one("[https://r]", "pollInterval: 0s"), ["'r' has neither content nor onDemand: nothing is mir"]),
        (_one("[https://r]", "pollInterval: 5m"), ["pollInterval: 'r' has no content: nothing is polled"]),
        (
            _one(
                "[docker.io]", "pollInterval: 5m, content: [{prefix: 'library/*'}, {prefix: library/nginx}]"
            ),
            ["content[0].prefix: Docker Hub has no catalog, so polling cannot find"],
        ),
        (_one("[docker.io]", "pollInterval: 5m, content: [{images: ['library/nginx:1']}]"), []),
        (
            _one("[quay.io, 'https://docker.io']", "pollInterval: 5m, content: [{prefix: a/b}]"),
            ["urls: docker.io and quay.io are different registries"],
        ),
        (
            _one("[localhost:9999]", "pollInterval: 5m, content: [{prefix: a}]"),
            ["urls[0]: is taken as https://localhost:9999, and a registry"],
        ),
        (
            _one("[ghcr.io/org]", "pollInterval: 5m, content: [{prefix: 'org/**'}]"),
            ["urls[0]: its path stands before every repository name"],
        ),
        (_entries("onlySigned: true, content: [{prefix: a}]"), ["onlySigned: it looks"]),
        (_entries("shards: 8, content: [{prefix: a}]"), []),
        (
            _entries("shards: 9, content: [{prefix: a}]"),
            ["shards: each shard makes a request at a time, together more than reqConcurrent: 8"],
        ),
        (_entries("preserveDigest: false, content: [{prefix: a}]"), ["preserved all the same"]),
        (_entries("certDir: /no/such, content: [{prefix: a}]"), ["certDir: there is no folder"]),
        (
            _one("['http://r']", "pollInterval: 5m, certDir: /, content: [{prefix: a}]"),
            ["certDir: no URL of this entry is https"],
        ),
        (_entries("content: [{prefix: a}]", head="  enable: false\n"), ["sync.enable: nothing"]),
        (_entries("content: [{prefix: a}]", head="  downloadDir: /d\n"), ["sync.downloadDir: not used"]),
        ("storage: {rootDirectory: /s, gc: false, gcDelay: 1h}" + _SYNC, ["gcDelay: has no effect"]),
        ("storage: {rootDirectory: /s, dedupe: false}" + _SYNC, ["storage.dedupe: blobs are always shared"]),
        ("storage: {rootDirectory: /s, storageDriver: {name: local}}" + _SYNC, []),
        ("storage: {rootDirectory: /s, storageDriver: {name: s3, bucket: b}}" + _SYNC, []),
        (
            "storage: {rootDirectory: /s, storageDriver: {name: gcs, bucket: b}}" + _SYNC,
            ["storage.storageDriver.name: 'gcs' has not been tried against the cloud itself yet"],
        ),
        (
            "storage: {rootDirectory: /s, redirectBlobURL: true, redirectLifetime: 5m}" + _SYNC,
            ["storage.redirectBlobURL: has no effect", "storage.redirectLifetime: has no effect"],
        ),
        (
            "storage: {rootDirectory: /s, storageDriver: {name: s3, bucket: b}, redirectBlobURL: false, "
            "redirectLifetime: 5m}" + _SYNC,
            ["storage.redirectLifetime: has no effect while redirectBlobURL is false"],
        ),
        (
            "storage: {rootDirectory: /s, subPaths: {/a: {rootDirectory: b, maxRepos: 3}}}" + _SYNC,
            ["a.maxRepos"],
        ),
        (
            "storage: {rootDirectory: /s, gc: false, retention: {policies: [{repositories: ['**']}]}}"
            + _SYNC,
            ["storage.retention: has no effect"],
        ),
    ],
)
def test_a_profile_is_warned_about(text: str, expected: list[str]) -> None:
    found = warnings(text)
    assert len(found) == len(expected), found
    for warning, part in zip(found, expected, strict=True):
        assert part in warning


_OFF = "  enable: false\n"
_NO_LOGINS = "  credentialsFile: /no\n"


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        pytest.param(_STORAGE, Severity.TAKES_NOTHING, id="no entry"),
        pytest.param(_entries("content: [{prefix: a}]", head=_OFF), Severity.TAKES_NOTHING, id="off"),
        pytest.param(_one("[r]", "pollInterval: 1h"), Severity.TAKES_NOTHING, id="no content"),
        pytest.param(_one("[r]", "pollInterval: 1h, onDemand: true"), Severity.ADVICE, id="clients ask"),
        pytest.param(_entries("content: [{prefix: 'A'}]"), Severity.TAKES_NOTHING, id="no such repository"),
        pytest.param(
            _entries("content: [{prefix: a, tags: {semverRange: '>2 <1'}}]"),
            Severity.TAKES_NOTHING,
            id="no such version",
        ),
        pytest.param(
            _entries("content: [{prefix: a, tags: {regex: 'a/b'}}]"),
            Severity.TAKES_NOTHING,
            id="no such tag",
        ),
        pytest.param(
            _one("[docker.io]", "pollInterval: 5m, content: [{prefix: '**'}]"),
            Severity.TAKES_NOTHING,
            id="no catalog",
        ),
        pytest.param(_entries("content: [{prefix: a}]", head=_NO_LOGINS), Severity.FAILS, id="no logins"),
        pytest.param(_entries("onlySigned: true, content: [{prefix: a}]"), Severity.ADVICE, id="it mirrors"),
    ],
)
def test_a_warning_says_whether_anything_is_mirrored_all_the_same(text: str, severity: Severity) -> None:
    assert [warning.severity for warning in load(text).warnings] == [severity]


@pytest.mark.parametrize(
    ("prefix", "advice"),
    [
        ("Library/*", "repository names are in lower case: write 'library/*'"),
        (".*", "it is a pattern, not a regular expression: write '**'"),
        ("library/.*", "write 'library/**'"),
        ("repo/", "write 'repo', without the extra '/'"),
        ("//repo", "write 'repo', without the extra '/'"),
        ("a//b", "write 'a/b', without the extra '/'"),
        ("/", "write '**' for every repository"),
        ("alpine:3", "a prefix has no tag: use tags.regex, or list images"),
        ("a b", "lower-case letters, digits and single separators"),
        ("[A-Z]*", "lower case"),
    ],
)
def test_a_pattern_that_can_match_nothing_is_warned_about(prefix: str, advice: str) -> None:
    found = warnings(_entries(f"content: [{{prefix: '{prefix}'}}]"))
    assert any("can match no repository" in warning and advice in warning for warning in found), found


@pytest.mark.parametrize("prefix", ["**", "a-*", "?-?", "*.example", "{a,B}", "/repo", "[a-z]*", "a*b*c"])
def test_a_pattern_that_can_match_is_left_alone(prefix: str) -> None:
    assert warnings(_entries(f"content: [{{prefix: '{prefix}'}}]")) == []


@pytest.mark.parametrize(
    ("tags", "part"),
    [
        ("semverRange: '>2 <1'", "no version is in '>2 <1'; alternatives are joined by '||'"),
        ("regex: ''", "'' can match no tag"),
        ("regex: 'a/b'", "'a/b' can match no tag"),
    ],
)
def test_tag_conditions_are_warned_about(tags: str, part: str) -> None:
    assert any(
        part in warning for warning in warnings(_entries(f"content: [{{prefix: a, tags: {{{tags}}}}}]"))
    )


@pytest.mark.parametrize(
    ("tags", "part"),
    [
        ("regex: '4.*'", "write '.*4.*' to do the same, or '^4.*' to mean the whole tag"),
        ("excludeRegex: 'rc'", "zot leaves out tags that merely contain it; write '.*rc.*' to do the same"),
    ],
)
def test_what_zot_takes_more_is_said_of_files_in_its_form(tags: str, part: str) -> None:
    entries = (
        f"sync: {{registries: [{{urls: [r], onDemand: true, content: [{{prefix: a, tags: {{{tags}}}}}]}}]}}"
    )
    assert any(part in warning for warning in warnings(f"{_STORAGE}extensions: {{{entries}}}"))
    assert warnings(_STORAGE + entries) == []


@pytest.mark.parametrize(
    ("text", "zot", "whole"),
    [
        ("4.*", ".*4.*", "^4.*"),
        ("^4", "^4.*", "^4$"),
        ("alpine$", ".*alpine$", "^alpine$"),
        ("a|b", ".*a.*|.*b.*", "^(a|b)$"),
        ("^a|b$", "^a.*|.*b$", "^(^a|b$)$"),
        (r"v\.$", r".*v\.$", r"^v\.$"),
        ("a[|]b", ".*a[|]b.*", "^a[|]b$"),
        ("(a|b)", ".*(a|b).*", "^(a|b)$"),
        ("(?i)rc", "(?i).*rc.*", "(?i)^rc$"),
        (r"a\$", r".*a\$.*", r"^a\$$"),
        ("a[]|]b", ".*a[]|]b.*", "^a[]|]b$"),
    ],
)
def test_an_expression_is_rewritten_for_either_reading(text: str, zot: str, whole: str) -> None:
    assert differs_from_full_match(text)
    assert (to_full_match(text), to_search(text)) == (zot, whole)
    assert not differs_from_full_match(to_full_match(text))


@pytest.mark.parametrize("text", ["^4.*$", ".*", "^4.*", ".*alpine$", "^a$|^b$", r"\Aa\z", "^(a|b)$"])
def test_an_expression_that_both_read_alike_is_left_alone(text: str) -> None:
    assert not differs_from_full_match(text)


@pytest.mark.parametrize(
    ("entries", "local"),
    [
        # the same name from two registries
        (["content: [{prefix: a/b}]", "content: [{prefix: a/b}]"], "a/b"),
        (["content: [{prefix: 'a/*'}]", "content: [{prefix: a/b}]"], "a/b"),
        (["content: [{prefix: '**'}]", "content: [{prefix: '**'}]"], "example"),
        (["content: [{prefix: a/b, destination: /x}]", "content: [{prefix: x/a/b}]"], "x/a/b"),
        # two repositories of one registry
        (["content: [{prefix: 'a/*', stripPrefix: true}, {prefix: 'b/*', stripPrefix: true}]"], "example"),
        (["content: [{prefix: a/x, destination: /m, stripPrefix: true}, {prefix: m}]"], "m"),
        (["content: [{images: ['a/b:1']}]", "content: [{images: ['a/b:1', 'a/b:2']}]"], "a/b"),
    ],
)
def test_two_rules_for_one_name_are_warned_about(entries: list[str], local: str) -> None:
    [warning] = warnings(_entries(*entries))
    assert f" under {local!r}, where sync.registries[0].content[0] (line 4) puts r0/" in warning


@pytest.mark.parametrize(
    "entries",
    [
        ["content: [{prefix: a}]", "content: [{prefix: b}]"],
        ["content: [{prefix: a}, {prefix: a, destination: /b, stripPrefix: true}]"],
        ["content: [{prefix: a, tags: {semver: true}}, {prefix: a}]"],  # the same content twice
        ["content: [{prefix: 'a/**'}, {prefix: 'a/*'}]"],
        ["content: [{images: ['a/b:1']}]", "content: [{images: ['a/b:2']}]"],
        ["content: [{prefix: 'a/*', destination: /x}]", "content: [{prefix: 'a/*', destination: /y}]"],
    ],
)
def test_rules_that_share_no_name_are_left_alone(entries: list[str]) -> None:
    assert warnings(_entries(*entries)) == []


def test_two_names_of_docker_hub_are_one_registry() -> None:
    text = f"{_STORAGE}sync:\n  registries:\n" + "".join(
        f"    - {{urls: ['{url}'], pollInterval: 1h, content: [{{prefix: {name}, destination: /m}}]}}\n"
        for url, name in [("https://docker.io/library", "alpine"), ("https://index.docker.io", "alpine")]
    )
    assert warnings(text) == []


def _with_credentials(folder: Path, content: str) -> list[str]:
    (folder / "c.json").write_text(content)
    return warnings(_entries("content: [{prefix: a}]", head="  credentialsFile: c.json\n"), folder=folder)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"r0": {"username": "u", "password": "s3cret"}}, id="zot's form"),
        pytest.param({"r0": {"auth": "dTpz"}}, id="the old .dockercfg"),
        pytest.param(
            {"auths": {"r0": {"auth": "dTpz"}, "other": {"auth": "dTpz"}}}, id="docker's config.json"
        ),
        pytest.param({"auths": {"https://index.docker.io/v1/": {"auth": "dTpz"}}}, id="Docker Hub"),
        pytest.param({"auths": {"r0": {}}, "credsStore": "pass"}, id="empty beside a credsStore"),
        pytest.param({"auths": {"r0/team": {"identitytoken": "s3cret"}}}, id="podman, a namespace, a token"),
        pytest.param({"credHelpers": {"r0": "pass"}, "HttpHeaders": {}}, id="helpers and settings"),
    ],
)
def test_a_good_credentials_file_is_left_alone(tmp_path: Path, content: dict[str, object]) -> None:
    assert _with_credentials(tmp_path, json.dumps(content)) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            '{"other:5000": {"username": "u", "password": "s3cret"}}',
            "has credentials for 'other:5000', and no",
        ),
        ('{"r0": {"username": "u"}, "s3": "cret"}', "the file has no username and password for 'r0'"),
        ('{"u:s3cret@r0": {"username": "u", "password": "s3cret"}}', "a key of the file is not a host"),
        ('{"auths": {"r0": {"auth": 1, "password": "s3cret"}}}', "`auths` of the file has no login for 'r0'"),
        ('{"auths": {"u:s3cret@r0": []}}', "`auths` of the file has no login for one of its hosts"),
        ('{"auths": ["s3cret"]}', "`auths` of the file is not an object"),
        ("s3cret", "is not JSON (line 1, column 1): every request to an upstream will fail"),
        ('["s3cret"]', "is not a JSON object: every request to an upstream will fail"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "is not JSON"),
    ],
)
def test_the_credentials_file_is_looked_at_and_never_shown(
    tmp_path: Path, content: str, expected: str
) -> None:
    found = _with_credentials(tmp_path, content)
    assert any(expected in warning for warning in found), found
    assert not any("s3cret" in warning for warning in found)


def test_a_credentials_file_that_cannot_be_read_fails_every_request(tmp_path: Path) -> None:
    (tmp_path / "c.json").mkdir()
    text = _entries("content: [{prefix: a}]", head="  credentialsFile: c.json\n")
    [warning] = warnings(text, folder=tmp_path)
    assert "cannot be read" in warning
    (tmp_path / "c.json").rmdir()
    [warning] = warnings(text, folder=tmp_path)
    assert "there is no file" in warning


def test_warnings_have_a_place_and_zot_keys_their_names() -> None:
    text = _STORAGE + "log: {output: /l}\nextensions: {ui: {enable: true}, sync: {}}\ncluster: {}\n"
    loaded = load(text)
    assert [(warning.line, warning.column, warning.path) for warning in loaded.warnings] == [
        (2, 7, "log.output"),
        (3, 14, "extensions.ui"),
        (3, 40, "extensions.sync"),
        (4, 1, "cluster"),
    ]
