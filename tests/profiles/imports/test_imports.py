"""`mirrorflow import`: each key of another program becomes a key of the profile, or a comment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from profiles.errors import ProfileInvalid
from profiles.imports.importer import profile_text
from profiles.loader import parse_profile
from tests.support.command_line import mirrorflow

if TYPE_CHECKING:
    from profiles.model.profile import Profile

SECRET = "s3cret-of-somebody"


def imported(document: Any) -> tuple[str, Profile]:
    """The text, and what it says; it loads whatever was imported."""
    text = profile_text(document if isinstance(document, str) else json.dumps(document), Path("input"))
    assert SECRET not in text
    return text, parse_profile(text, Path("profile.yaml")).profile


def comments(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))


def rule_of(text: str) -> dict[str, Any]:
    entry = yaml.safe_load(text)["sync"]["registries"][0]
    return {**entry, **entry["content"][0]}


def regsync(step: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    base = {
        "source": "quay.io/a/b",
        "target": "mirror.example:5000/x/b",
        "type": "repository",
        "interval": "60m",
    }
    return {"version": 1, "sync": [base | (step or {})], **top}


def skopeo(**keys: Any) -> dict[str, Any]:
    return {"registry.example.com": keys}


def harbor(*filters: dict[str, Any], **keys: Any) -> dict[str, Any]:
    policy = {
        "id": 1,
        "name": "pull",
        "src_registry": {"id": 2, "url": "https://quay.io", "type": "quay"},
        "dest_registry": {"id": 0},
        "filters": list(filters),
        "trigger": {"type": "manual"},
        "enabled": True,
    }
    return policy | keys


# regclient: cmd/regsync/config.go, config/host.go, docs/regsync.md
REGSYNC = [
    (
        "where it lands",
        {},
        {"prefix": "a/b", "destination": "/x/b", "stripPrefix": True, "pollInterval": "1h"},
    ),
    ("same name", {"target": "mirror.example/a/b"}, {"prefix": "a/b", "urls": ["https://quay.io"]}),
    ("Docker Hub", {"source": "alpine", "target": "m.example/alpine"}, {"prefix": "library/alpine"}),
    ("image", {"type": "image", "source": "quay.io/a/b:1"}, {"images": ["a/b:1"]}),
    ("image latest", {"type": "image"}, {"images": ["a/b:latest"]}),
    (
        "image by digest",
        {"type": "image", "source": f"quay.io/a/b@sha256:{'0' * 64}"},
        {"images": [f"a/b@sha256:{'0' * 64}"]},
    ),
    ("tags.allow", {"tags": {"allow": ["latest", "3"]}}, {"tags": {"regex": "(?:latest)|(?:3)"}}),
    ("tags.deny", {"tags": {"deny": [".*-rc"]}}, {"tags": {"excludeRegex": ".*-rc"}}),
    (
        "tags.semverRange",
        {"tags": {"semverRange": [">=1.2, <2", "^4"]}},
        {"tags": {"semverRange": ">=1.2  <2 || ^4"}},
    ),
    ("tagSets", {"tagSets": [{"allow": ["a"]}, {"allow": ["b"]}]}, {"tags": {"regex": "a"}}),
    (
        "registry",
        {"type": "registry", "source": "quay.io", "target": "m.example/q"},
        {"prefix": "**", "destination": "/q"},
    ),
    (
        "repos.allow",
        {"type": "registry", "source": "quay.io", "target": "m.example", "repos": {"allow": ["team/.*"]}},
        {"prefix": "team/**"},
    ),
    ("platforms", {"platforms": ["linux/amd64", ""]}, {"platforms": ["linux/amd64"]}),
    ("no referrers", {}, {"referrers": {"follow": False}, "syncLegacyCosignTags": False}),
    ("digestTags", {"digestTags": True}, {"syncLegacyCosignTags": True}),
    (
        "referrerFilters",
        {"referrers": True, "referrerFilters": [{"artifactType": "a/b", "annotations": {"k": ""}}]},
        {"referrers": {"artifactTypes": ["a/b"], "annotations": {"k": "*"}}},
    ),
    (
        "another tag",
        {"type": "image", "source": "quay.io/a/b:1.2", "target": "m.example/a/b:stable"},
        {"tags": {"regex": r"1\.2", "rename": {"regex": r"1\.2", "to": "stable"}}},
    ),
    ("schedule", {"interval": None, "schedule": "15 01 * * *"}, {"schedule": "15 01 * * *"}),
    ("mediaTypes", {"mediaTypes": ["a/b"]}, {"select": 'contains(`["a/b"]`, mediaType)'}),
]


@pytest.mark.parametrize(("step", "keys"), [row[1:] for row in REGSYNC], ids=[row[0] for row in REGSYNC])
def test_a_step_of_regsync_becomes_a_rule(step: dict[str, Any], keys: dict[str, Any]) -> None:
    text, _ = imported(regsync(step))
    assert rule_of(text) | keys == rule_of(text)


@pytest.mark.parametrize(
    ("top", "keys"),
    [
        ({"tls": "disabled"}, {"urls": ["http://quay.io"]}),
        ({"tls": "insecure"}, {"tlsVerify": False}),
        ({"hostname": "quay.internal:5000"}, {"urls": ["https://quay.internal:5000"]}),
        ({"mirrors": ["m1.example"]}, {"urls": ["https://m1.example", "https://quay.io"]}),
        ({"pathPrefix": "hub"}, {"urls": ["https://quay.io/hub"]}),
        ({"reqPerSec": 2.5, "reqConcurrent": 4}, {"reqPerSec": 2.5, "reqConcurrent": 4}),
    ],
    ids=str,
)
def test_a_host_of_regsync_becomes_keys_of_the_entry(top: dict[str, Any], keys: dict[str, Any]) -> None:
    text, _ = imported(regsync(creds=[{"registry": "quay.io", **top}]))
    assert rule_of(text) | keys == rule_of(text)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        *(
            (
                regsync({key: "x" if key != "hooks" else {"pre": {"params": [SECRET]}}}),
                f"sync[0].{key} is left out: ",
            )
            for key in (
                "backup",
                "referrerSource",
                "referrerTarget",
                "referrerSlow",
                "includeExternal",
                "hooks",
            )
        ),
        *(
            (regsync(defaults={key: 1}), f"defaults.{key} is left out: ")
            for key in ("parallel", "ratelimit", "cacheCount", "cacheTime", "blobLimit", "skipDockerConfig")
        ),
        *(
            (regsync(creds=[{"registry": "quay.io", key: "x"}]), f"creds[0].{key} is left out: ")
            for key in ("credExpire", "repoAuth", "priority", "apiOpts", "blobChunk", "blobMax")
        ),
        (regsync({"surprise": 1}), "sync[0].surprise is left out: it is no key that is known."),
        (regsync({"source": '{{env "X"}}/a'}), "sync[0]: left out: source or target is a template"),
        (regsync({"target": "ocidir:///mnt/x"}), "sync[0]: left out: source or target is a folder"),
        (
            regsync({"type": "tarball"}),
            "sync[0]: left out: its type is none of registry, repository and image.",
        ),
        (regsync({"interval": None}), "No interval: only `mirrorflow sync` mirrors it"),
        (regsync({"platform": "local"}), "The platform `local` is regsync's own machine"),
        (regsync({"tags": {"semverRange": ["!!"]}}), "The version range '!!' cannot be said"),
        (
            regsync(
                {"type": "registry", "source": "quay.io", "target": "m.example", "repos": {"allow": ["a|b"]}}
            ),
            "sync[0].repos.allow: 'a|b' is left out: no pattern here says it",
        ),
        (
            regsync(
                {"type": "registry", "source": "quay.io", "target": "m.example", "repos": {"deny": ["a"]}}
            ),
            "Takes more than regsync, which leaves out a: no pattern here does that.",
        ),
        (
            regsync(creds=[{"registry": "quay.io", "user": "u", "pass": SECRET}]),
            '{"quay.io": {"username": "…"',
        ),
        (
            regsync(creds=[{"registry": "quay.io", "credHelper": "docker-credential-x"}]),
            "credHelpers of ~/.docker",
        ),
        (regsync(creds=[{"registry": "quay.io", "clientKey": SECRET}]), "write certDir: FOLDER"),
        (
            skopeo(images={"a": []}, credentials={"username": "u", "password": SECRET}),
            "Passwords are not printed",
        ),
        (skopeo(**{"images": {"a": []}, "tls-verify": False}), "skopeo then also takes plain HTTP"),
        (skopeo(images={"a": []}, surprise=1), "surprise is left out: it is no key that is known."),
        (skopeo(images={"A B": []}), "'A B' is no repository: left out."),
        (harbor({"type": "label", "value": ["x"]}), "The filter filters[0] by label is left out"),
        (harbor(override=False), "here a tag follows its upstream"),
        (harbor(replicate_deletion=True), "here tags stay, see storage.retention"),
        (harbor(enabled=False), "Harbor's policy is switched off, so this entry has no schedule."),
        (harbor(trigger={"type": "event_based"}), "see sync.notifications"),
        (harbor(src_registry=None), "The policy 'pull' is left out: it pushes from Harbor itself"),
        (harbor(surprise=1), "surprise is left out: it is no key that is known."),
        (
            harbor(src_registry={"url": "https://q.example", "credential": {"access_secret": SECRET}}),
            '{"q.example": {"username"',
        ),
        (
            harbor(src_registry={"url": "https://q.example", "ca_certificate": SECRET}),
            "put the certificate there",
        ),
    ],
)
def test_what_cannot_be_said_is_a_comment(document: Any, words: str) -> None:
    text, _ = imported(document)
    assert words in comments(text)


# containers/skopeo: docs/skopeo-sync.1.md
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"images": {"a/b": []}}, {"prefix": "a/b", "destination": "/b", "stripPrefix": True}),
        ({"images": {"b": ["1.0", f"sha256:{'1' * 64}"]}}, {"images": ["b:1.0", f"b@sha256:{'1' * 64}"]}),
        ({"images-by-tag-regex": {"b": "1-alpine"}}, {"tags": {"regex": ".*1-alpine.*"}}),
        ({"images-by-tag-regex": {"b": r"^1\.13$"}}, {"tags": {"regex": r"^1\.13$"}}),
        ({"images-by-semver": {"b": ">= 3.12.0"}}, {"tags": {"semverRange": ">= 3.12.0"}}),
        ({"images": {"b": []}, "tls-verify": False}, {"tlsVerify": False}),
        ({"images": {"b": []}, "cert-dir": "/home/j/certs"}, {"certDir": "/home/j/certs"}),
    ],
    ids=str,
)
def test_a_registry_of_skopeo_becomes_an_entry(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    text, _ = imported(skopeo(**keys))
    assert rule_of(text) | expected == rule_of(text)


# goharbor/harbor: api/v2.0/swagger.yaml, ReplicationPolicy
@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (harbor(), {"name": "pull", "urls": ["https://quay.io"], "prefix": "**"}),
        (harbor({"type": "name", "value": "team/**"}), {"prefix": "team/**"}),
        (harbor({"type": "tag", "value": "v{1,2}.*"}), {"tags": {"regex": r"v(?:1|2)\..*"}}),
        (
            harbor({"type": "tag", "value": "*-rc?", "decoration": "excludes"}),
            {"tags": {"excludeRegex": r".*\-rc."}},
        ),
        (harbor({"type": "resource", "value": "image"}), {"prefix": "**"}),
        (harbor(dest_namespace="m", dest_namespace_replace_count=0), {"destination": "/m"}),
        (
            harbor({"type": "name", "value": "a/b/c"}, dest_namespace="m", dest_namespace_replace_count=1),
            {"destination": "/m/b/c", "stripPrefix": True},
        ),
        (
            harbor({"type": "name", "value": "a/**"}, dest_namespace="m", dest_namespace_replace_count=1),
            {"destination": "/m", "stripPrefix": True},
        ),
        (
            harbor(src_registry={"url": "https://hub.docker.com", "type": "docker-hub"}),
            {"urls": ["https://docker.io"]},
        ),
        (harbor(src_registry={"url": "http://q.example", "insecure": True}), {"tlsVerify": False}),
        (harbor(speed=100), {"bytesPerSec": 102400}),
        (harbor(speed=-1), {"name": "pull"}),
        (
            harbor(trigger={"type": "scheduled", "trigger_settings": {"cron": "0 0 */2 * * *"}}),
            {"schedule": "0 */2 * * *"},
        ),
    ],
)
def test_a_policy_of_harbor_becomes_an_entry(document: Any, expected: dict[str, Any]) -> None:
    text, _ = imported([document])
    assert rule_of(text) | expected == rule_of(text)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("[1]", "input:1:2: [0]: not a section with keys"),
        (
            '{"a": 1}',
            "input:1:1: a configuration of neither regsync, nor skopeo sync, nor Harbor's replication; say",
        ),
        ("a: [", "input:1:"),
        ("", "input:1:1: the file is empty"),
        (json.dumps(regsync({"interval": "soon"})), "sync[0].interval: not a duration such as 60m"),
        (json.dumps({"sync": {}}), "sync: not a list"),
        (json.dumps(regsync({"tags": {"allow": [{}]}})), "sync[0].tags.allow: not a list of texts"),
    ],
)
def test_what_is_of_the_wrong_kind_is_one_error_with_its_place(document: str, said: str) -> None:
    with pytest.raises(ProfileInvalid) as raised:
        profile_text(document, Path("input"))
    assert said in str(raised.value)


def test_a_text_cannot_leave_its_comment() -> None:
    text, profile = imported(regsync({"x\nstorage: {rootDirectory: /etc}\n": 1}))
    assert str(profile.storage.root_directory).endswith("/store")
    assert "\nstorage: {" not in text


def test_the_command_prints_a_profile_that_passes_check(tmp_path: Path) -> None:
    (tmp_path / "regsync.yml").write_text(yaml.safe_dump(regsync()))
    done = mirrorflow("import", tmp_path / "regsync.yml")
    assert done.returncode == 0, done.stderr
    (tmp_path / "profile.yaml").write_text(done.stdout)
    checked = mirrorflow("check", tmp_path / "profile.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "every 1h, from https://quay.io" in checked.stdout
