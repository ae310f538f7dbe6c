"""A file becomes a profile, or everything that is wrong with it at once, each with its place."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from profiles.errors import ProfileUnreadable
from profiles.loader import load_profile
from profiles.model.profile import Profile
from tests.profiles.support import load, problems, warnings

_YAML = """\
storage:
  rootDirectory: /tmp/zot
sync:
  registries:
    - urls: ["https://registry1:5000"]
      pollInterval: 6h
      content:
        - prefix: library/*
          tags: {regex: "^4.*$", semver: true}
"""
_JSON = """\
{
\t"storage": {"rootDirectory": "/tmp/zot"},
\t"extensions": {"sync": {"registries": [{
\t\t"urls": ["https://registry1:5000"],
\t\t"PollInterval": "6h",
\t\t"content": [{"prefix": "library/*", "tags": {"regex": "^4.*$", "semver": true}}]
\t}]}}
}
"""
_TOML = """\
[storage]
root_directory = "/tmp/zot"

[[sync.registries]]
urls = ["https://registry1:5000"]
poll_interval = 21600

[[sync.registries.content]]
prefix = "library/*"
tags = { regex = "^4.*$", semver = true }
"""


def _rest(text: str) -> str:
    """A profile whose only registry entry has these lines more."""
    head = "storage: {rootDirectory: /s}\nsync:\n  registries:\n    - urls: [https://r]\n"
    return head + textwrap.indent(textwrap.dedent(text).strip("\n"), "      ") + "\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (_YAML, "a.yaml"),
        (_YAML, "a.yml"),
        (_JSON, "a.json"),
        (_TOML, "a.toml"),
        (_YAML, "a"),
        (_JSON, "a.conf"),
        (_TOML, "config"),
        (_JSON.replace("\t", "  "), "json-is-yaml.yaml"),
    ],
)
def test_one_profile_in_every_format_and_spelling(text: str, name: str) -> None:
    assert load(text, name).profile == load(_YAML).profile
    assert warnings(text, name) == []


def test_a_profile_survives_being_written_and_read() -> None:
    profile = load(_YAML).profile
    text = json.dumps(profile.model_dump(mode="json", by_alias=True))
    assert load(text, "again.json").profile == profile
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


def test_a_file_is_read_and_its_paths_begin_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "storage: {rootDirectory: ./here, subPaths: {kube: {rootDirectory: k}, /abs: {rootDirectory: /k}}}\n"
        "sync: {credentialsFile: c.json}\n",
        encoding="utf-8-sig",
    )
    profile = load_profile(tmp_path / "p.yaml").profile
    assert profile.storage.root_directory == tmp_path / "here"
    assert profile.storage.roots() == {"/kube": tmp_path / "here/k", "/abs": Path("/k")}
    assert profile.sync.credentials_file == tmp_path / "c.json"
    elsewhere = load_profile(tmp_path / "p.yaml", folder=tmp_path / "cwd").profile
    assert elsewhere.storage.root_directory == tmp_path / "cwd/here"


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"a: b\n\xff\xfe")
    for path, words in [
        (tmp_path / "absent.yaml", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "binary.yaml", "binary.yaml:2: not UTF-8"),
        (tmp_path / "binary.yaml" / "x", "cannot be read"),
    ]:
        with pytest.raises(ProfileUnreadable, match=words):
            load_profile(path)


_MISTAKES = """\
storage:
  rootDirectry: /tmp/zot
  gcDelay: 0
http:
  port: "808x"
extensions:
  sync:
    registries:
      - urls: ["https://user:pw@registry1:5000"]
        polInterval: 6h
        maxRetries: 3
        tlsVerify: maybe
        content:
          - prefix: "[repo%^&"
          - prefix: /repo
            tags:
              regex: "[*"
              newest: 3
              semverRange: 1.20
            select: "label.x == 'y'"
            colour: red
            pollInterval: 5m
"""


_ENTRY = "extensions.sync.registries[0]"


def test_all_mistakes_are_reported_at_once_each_at_its_place() -> None:
    expected = [
        "2:3: storage.rootDirectry: unknown key 'rootDirectry'; did you mean 'rootDirectory'?",
        "3:12: storage.gcDelay: the duration must be longer than 0; write e.g. '30s'",
        "5:9: http.port: '808x' is not a whole number; write a whole number, e.g. port: 5000",
        f"9:16: {_ENTRY}.urls[0]: the URL holds a user name or password",
        f"10:9: {_ENTRY}.polInterval: unknown key 'polInterval'; did you mean 'pollInterval'?",
        f"11:21: {_ENTRY}.maxRetries: retryDelay is required with maxRetries; add e.g. retryDelay: '5m'",
        f"12:20: {_ENTRY}.tlsVerify: 'maybe' is not true or false; write true or false, without quotes",
        f"14:21: {_ENTRY}.content[0].prefix: '[repo%^&' has a '[' that begins no class; write e.g. 'v[0-9]'",
        f"17:22: {_ENTRY}.content[1].tags.regex: '[*' is not a regular expression",
        f"19:28: {_ENTRY}.content[1].tags.semverRange: not a text; put the range in quotes",
        f"20:21: {_ENTRY}.content[1].select: 'label' is not known of an image; did you mean 'labels'?",
        f"21:13: {_ENTRY}.content[1].colour: unknown key 'colour'; known here: prefix, tags, destination",
        f"22:13: {_ENTRY}.content[1].pollInterval: unknown key 'pollInterval'; it belongs into",
    ]
    found = problems(_MISTAKES)
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith(beginning)
    assert not any("pw" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("maxRetries: 3", "maxRetries: retryDelay is required with maxRetries"),
        ("maxRetryDelay: 3m", "maxRetryDelay: retryDelay is required with maxRetryDelay"),
        ("{maxRetryDelay: 1s, retryDelay: 2s}", "maxRetryDelay: maxRetryDelay is shorter than retryDelay"),
        ("maxRetries: -1", "maxRetries: -1 is out of bounds; write at least 0"),
        ("reqConcurrent: 0", "reqConcurrent: 0 is out of bounds; write more than 0"),
        ("reqPerSec: 0", "reqPerSec: 0 is not a finite number greater than 0"),
        ("reqPerSec: .nan", "reqPerSec: nan is not a finite number greater than 0"),
        ("reqPerSec: .inf", "reqPerSec: inf is not a finite number greater than 0"),
        ("tokenServices: https://auth.example", "tokenServices: 'https://auth.example' is not a list"),
        ("tokenServices: [5]", "tokenServices[0]: not a URL; write its scheme and host"),
        (
            "tokenServices: ['https://Auth.example:443/token?x=1']",
            "tokenServices[0]: a registry's URL has no query",
        ),
        (
            "tokenServices: ['https://Auth.example:443/token']",
            "tokenServices[0]: a token service is named without a path; write 'https://auth.example'",
        ),
        ("tokenServices: ['https://me:pw@auth.example']", "tokenServices[0]: the URL holds a user name"),
        (
            "tokenServices: ['http://auth.example']",
            "tokenServices[0]: a token service without TLS sees no credentials of a registry with TLS; write",
        ),
        ("maxIdleConnsPerHost: 0", "maxIdleConnsPerHost: 0 is out of bounds"),
        ("manifestCheckInterval: -1", "manifestCheckInterval: -1 is not a duration"),
        ("manifestCheckInterval: 5m", "manifestCheckInterval: manifestCheckInterval requires onDemand"),
        ("onDemandInBackground: true", "onDemandInBackground: onDemandInBackground requires onDemand"),
        ("readTimeout: 0", "readTimeout: the duration must be longer than 0"),
        ("credentialHelper: azure", "credentialHelper: 'azure' is no credential helper; write 'acr'"),
        ("credentialHelper: oauth2", "credentialHelper: oauth2 does not say which token endpoint"),
        ("oauth2CredentialHelper: {tokenURL: x}", "tokenURL: not the URL of a token endpoint"),
        (
            "oauth2CredentialHelper: {tokenURL: 'https://i', assertionFile: a}",
            "oauth2CredentialHelper: has no effect without the helper",
        ),
        (
            "{credentialHelper: oauth2, oauth2CredentialHelper: {tokenURL: 'https://i'}}",
            "one of assertionFile and signingFile is needed",
        ),
        ("name: a/b", "name: 'a/b' cannot name a registry entry"),
        ("platforms: [linux/]", "platforms[0]: 'linux/' is not a platform"),
        ("platforms: linux/amd64", "platforms: 'linux/amd64' is not a list; write a list, e.g. platforms:"),
        ("content: [{}]", "content[0].prefix: prefix is missing"),
        ("content: [prefix]", "content[0]: 'prefix' is not a section with keys"),
        ("content: [{prefix: 5}]", "content[0].prefix: not a text"),
        (
            "content: [{prefix: a, tags: [v3, '1.2', 3.19]}]",
            r"by their names; write {regex: 'v3|1\.2|3\.19'} to take these, or list images",
        ),
        ("content: [{prefix: a, tags: v3}]", "content[0].tags: tags says which tags to take by keys"),
        (
            "content: [{prefix: a, tags: {newest: 3}}]",
            "content[0].tags.newest: newest: 3 must know which",
        ),
        # Only the first cause is said: without the mistake there would be an order.
        ("content: [{prefix: a, tags: {semverRange: '>>3', newest: 2}}]", "semverRange: '>>3' is not a comp"),
        (
            "content: [{prefix: a, tags: {semvr: true, newest: 2}}]",
            "tags.semvr: unknown key 'semvr'",
        ),
        ("content: [{prefix: a, destination: /K8s}]", "content[0].destination: '/K8s' cannot begin a repo"),
        (
            "content: [{prefix: a, destination: 5}]",
            "content[0].destination: 5 is not a text; put it in quotes",
        ),
        ("content: [{prefix: zot-repo, stripPrefix: true, destination: /}]", "content[0].stripPrefix: strip"),
        ("content: [{prefix: zot-repo, stripPrefix: true}]", "content[0].stripPrefix: stripPrefix leaves"),
        ("content: [{prefix: a, images: ['b:1']}]", "content[0].images[0]: 'b:1' is outside of prefix 'a'"),
        ("content: [{images: ['b']}]", "content[0].images[0]: 'b' names no tag; write 'b:TAG'"),
        (
            "content: [{images: ['b:1'], tags: {semver: true}}]",
            "content[0].tags: images names its tags itself",
        ),
        ("content: [{prefix: a, tags: {newest: 0, semver: true}}]", "tags.newest: 0 is out of bounds"),
        (
            "content: [{prefix: a, tags: {regex: 1.5}}]",
            "tags.regex: not a text; put the expression in quotes",
        ),
        ("content: [{prefix: a, select: 'a ='}]", "content[0].select: not a JMESPath expression"),
        ("content: [{prefix: a, select: true}]", "content[0].select: not a text"),
    ],
)
def test_a_registry_entry_is_refused(text: str, expected: str) -> None:
    [problem] = problems(_rest(text[1:-1].replace(", ", "\n") if text.startswith("{") else text))
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sync: {}", ["1:1: the key 'storage' is missing"]),
        ("", ["1:1: the file is empty; begin with storage and sync"]),
        ("# nothing\n", ["1:1: the file is empty; begin with storage and sync"]),
        ("[]", ["1:1: a list is not a section with keys"]),
        ("storage: {rootDirectory: /s}\nextensions: 5", ["2:13: extensions: 'extensions' is not a section"]),
        ("text", ["1:1: 'text' is not a section with keys"]),
        (
            "storage: {rootDirectory: /s, storageDriver: {name: s3, bucket: b, regionendpoint: 'http://u:p@h'}}",
            ["1:83: storage.storageDriver.regionendpoint: regionendpoint is no address of a server"],
        ),
        (
            "storage: {rootDirectory: /s, storageDriver: {name: s3, bucket: a/b}}",
            ["1:64: storage.storageDriver.bucket: 'a/b' is no name of a bucket"],
        ),
        (
            "storage: {rootDirectory: /s, storageDriver: {bucket: b}}",
            ["1:45: storage.storageDriver: the key 'name' is missing"],
        ),
        (
            "storage: {rootDirectory: /s, locks: {}}",
            ["1:37: storage.locks: locks of several hosts are for a store in object storage"],
        ),
        (
            "storage: {rootDirectory: /s, storageDriver: {name: s3, bucket: b}, redirectLifetime: 30d}",
            ["1:86: storage.redirectLifetime: such an address is good for a second to a week"],
        ),
        (
            "storage: {rootDirectory: /s, subPaths: {/a/b: {rootDirectory: /t}}}",
            ["1:47: storage.subPaths./a/b: '/a/b' is not the first segment of a repository name"],
        ),
        (
            "storage: {rootDirectory: /s, subPaths: {/c: {rootDirectory: /s}}}",
            ["1:61: storage.subPaths./c.rootDirectory: the folder of the subpath /c is storage"],
        ),
        (
            "storage: {rootDirectory: /s, root_directory: /t}",
            ["1:30: storage.root_directory: the key 'root_directory' stands already on line 1"],
        ),
        (
            "storage: {rootDirectory: /s}\nlog: {level: loud}\n",
            ["2:14: log.level: 'loud' is not known here; wr"],
        ),
        (
            "storage: {rootDirectory: /s}\nextensions: {serch: {}, sync: {}}\nsync: {}\n",
            [
                "2:14: extensions.serch: unknown key",
                "3:1: extensions.sync: the key 'sync' stands already on line 2",
            ],
        ),
        (
            "storage: {rootDirectory: /s}\nsync: {registries: [{urls: [a], name: x}, {urls: [b], name: x}]}",
            ["2:61: sync.registries[1].name: 'x' names an earlier entry too"],
        ),
        (
            "storage: {rootDirectory: /s, gcDelai: x}",
            ["1:30: storage.gcDelai: unknown key 'gcDelai'; did you mean"],
        ),
        (
            "storage: {rootDirectory: /s}\nsync: {registries: [{urls: [a], maxRetries: 1, retryDelai: 5}]}",
            ["2:48: "],
        ),
    ],
)
def test_a_profile_is_refused(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith(beginning)


@pytest.mark.parametrize(
    "auth",
    [
        "ldap: {address: l}",
        "openid: {providers: {}}",
        "bearer: {realm: 'https://auth.example', service: s}",
        "bearer: {cert: c}",
    ],
)
def test_access_that_was_to_be_restricted_is_not_opened_silently(auth: str) -> None:
    found = problems(
        f"storage: {{rootDirectory: /s}}\nhttp:\n  auth:\n    htpasswd: {{path: p}}\n    {auth}\n"
    )
    assert all("is not supported yet, and to ignore it would be wrong" in problem for problem in found)
