"""Who we are, from all places where users keep that. Nothing secret may show anywhere."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from tasks.upstream.errors import CredentialsInvalid
from tasks.upstream.login.credential_files import normal_key, parse_credentials
from tasks.upstream.login.credential_helpers import ask_helper
from tasks.upstream.login.credential_sources import StandardCredentials
from tasks.upstream.login.credentials import Credential
from tests.tasks.upstream.clients import FakeTime

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-very-secret"


def auth(username: str = "alice", password: str = SECRET) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def docker(host: str = "r:5000", username: str = "alice") -> str:
    return json.dumps({"auths": {host: {"auth": auth(username)}}})


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def script(folder: Path, name: str, body: str) -> None:
    path = write(folder / f"docker-credential-{name}", f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def environ(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": f"{home / 'bin'}:/usr/bin:/bin"} | more


def test_every_source_is_known_and_the_first_wins(tmp_path: Path) -> None:
    sources = [
        write(tmp_path / "explicit.json", json.dumps({"r:5000": {"username": "file", "password": SECRET}})),
        docker(username="env"),
        write(tmp_path / "auth-file.json", docker(username="auth-file")),
        write(tmp_path / "run/containers/auth.json", docker(username="runtime")),
        write(tmp_path / "config/containers/auth.json", docker(username="config")),
        write(tmp_path / "docker/config.json", docker(username="docker")),
        write(tmp_path / ".dockercfg", json.dumps({"r:5000": {"auth": auth("dockercfg")}})),
    ]
    variables = {
        "DOCKER_AUTH_CONFIG": str(sources[1]),
        "REGISTRY_AUTH_FILE": str(sources[2]),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
    }
    found = []
    for gone in ["", *variables]:
        variables.pop(gone, None)
        file = tmp_path / "explicit.json" if not gone else None
        credential = StandardCredentials(file, environ(tmp_path, **variables)).find("r:5000")
        found.append(credential.username if credential else "")
    assert found == ["file", "auth-file", "runtime", "config", "docker", "dockercfg"]
    only_env = StandardCredentials(None, environ(tmp_path, DOCKER_AUTH_CONFIG=docker(username="env")))
    assert only_env.find("r:5000") == Credential("env", SECRET)


def test_without_any_source_we_are_anonymous(tmp_path: Path) -> None:
    assert StandardCredentials(None, environ(tmp_path)).find("docker.io") is None
    assert StandardCredentials(None, {}).find("docker.io") is None


def test_the_default_places_are_below_home(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", docker(username="docker"))
    assert StandardCredentials(None, environ(tmp_path)).find("r:5000") == Credential("docker", SECRET)
    write(tmp_path / ".config/containers/auth.json", docker(username="podman"))
    assert StandardCredentials(None, environ(tmp_path)).find("r:5000") == Credential("podman", SECRET)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("docker.io/library", "docker.io/library"),
        ("Registry.Example:5000/", "registry.example:5000"),
        ("http://registry:5000/v2/", "registry:5000"),
        ("https://registry.example/some/path", "registry.example"),
        ("registry.example:443", "registry.example"),
        ("quay.io/team/app", "quay.io/team/app"),
    ],
)
def test_keys_have_many_spellings(key: str, expected: str) -> None:
    assert normal_key(key) == expected


@pytest.mark.parametrize(
    ("registry", "repository", "expected"),
    [
        ("quay.io", "team/app", "app"),
        ("quay.io", "team/app/part", "app"),
        ("quay.io", "team/other", "team"),
        ("quay.io", "teams/app", "quay"),
        ("quay.io", "", "quay"),
        ("docker.io", "library/nginx", "hub"),
        ("quay.io:444", "team/app", None),
    ],
)
def test_the_longest_namespace_wins(registry: str, repository: str, expected: str | None) -> None:
    users = {
        "quay.io": "quay",
        "quay.io/team": "team",
        "quay.io/team/app": "app",
        "https://index.docker.io/v1/": "hub",
    }
    file = parse_credentials(
        json.dumps({"auths": {key: {"auth": auth(user)} for key, user in users.items()}}), "f"
    )
    found = file.find(registry, repository, {})
    assert (found.username if found else None) == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "a", "password": "b"}, Credential("a", "b")),
        ({"auth": auth("a", "b:c")}, Credential("a", "b:c")),
        ({"auth": auth("a", "b\0\0")}, Credential("a", "b")),
        ({"auth": auth("0000", ""), "identitytoken": "t"}, Credential("0000", "", identity_token="t")),
        ({"registrytoken": "t"}, Credential(registry_token="t")),
        ({}, None),
        ({"email": 1}, None),
        ({"username": None, "password": None}, None),
    ],
    ids=str,
)
def test_entries_have_many_shapes(entry: dict[str, Any], expected: Credential | None) -> None:
    assert parse_credentials(json.dumps({"auths": {"r": entry}}), "f").find("r", "", {}) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON: .*line 1 column 2"),
        ('{"r": "' + SECRET, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"auths": []}', "`auths` is not an object"),
        ('{"auths": {"r": "' + SECRET + '"}}', "f: r: expected"),
        ('{"auths": {"r": {"auth": "' + SECRET + '"}}}', "not base64"),
        ('{"auths": {"r": {"auth": "' + base64.b64encode(SECRET.encode()).decode() + '"}}}', "user:password"),
        ('{"r": {"username": 1, "password": "' + SECRET + '"}}', "username is not a text"),
        ('{"credHelpers": {"r": 1}}', "credHelpers"),
        ('{"credsStore": 1}', "credsStore is not a text"),
        ("[" * 100_000, "not JSON"),
    ],
    ids=range(11),
)
def test_a_bad_file_says_where_and_never_what(content: str, message: str) -> None:
    with pytest.raises(CredentialsInvalid, match=message) as caught:
        parse_credentials(content, "f")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None, "a JSON error carries the whole document"


def test_a_file_that_the_profile_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(CredentialsInvalid, match=r"credentialsFile: .*No such file"):
        StandardCredentials(tmp_path / "gone.json", environ(tmp_path)).find("r")


def test_a_broken_file_that_merely_lies_around_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / ".config/containers/auth.json", '{"auths": {"r": {"auth": "' + SECRET)
    write(tmp_path / ".docker/config.json", docker())
    with caplog.at_level(logging.WARNING):
        assert StandardCredentials(None, environ(tmp_path)).find("r:5000") is not None
    assert "auth.json is not JSON" in caplog.text
    assert SECRET not in caplog.text


def test_a_config_that_holds_only_settings_is_no_mistake() -> None:
    assert (
        parse_credentials('{"psFormat": "table", "HttpHeaders": {"X": "y"}}', "f").find("r", "", {}) is None
    )


def test_helpers_come_before_the_store_and_the_store_before_auths(tmp_path: Path) -> None:
    for name in ("one", "all"):
        script(
            tmp_path / "bin",
            name,
            'read -r host; [ "$1" = get ] && '
            f'printf \'{{"ServerURL": "x", "Username": "{name}-%s", "Secret": "s"}}\' "$host"',
        )
    document = {
        "credHelpers": {"quay.io": "one"},
        "credsStore": "all",
        "auths": {"quay.io": {"auth": auth()}, "https://index.docker.io/v1/": {}},
    }
    write(tmp_path / ".docker/config.json", json.dumps(document))
    credentials = StandardCredentials(None, environ(tmp_path))
    assert credentials.find("quay.io") == Credential("one-quay.io", "s")
    assert credentials.find("docker.io") == Credential("all-https://index.docker.io/v1/", "s")


def test_a_helper_that_knows_nothing_leaves_us_anonymous(tmp_path: Path) -> None:
    script(tmp_path / "bin", "x", "echo 'credentials not found in native keychain'; exit 1")
    assert ask_helper("x", "r", environ(tmp_path), where="f") is None


def test_a_helper_may_give_an_identity_token(tmp_path: Path) -> None:
    script(tmp_path / "bin", "x", """echo '{"Username": "<token>", "Secret": "refresh"}'""")
    assert ask_helper("x", "r", environ(tmp_path), where="f") == Credential(identity_token="refresh")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"echo {SECRET}; exit 3", "ended with code 3 for r"),
        (f"echo {SECRET}", "answered something else"),
        (f"""echo '{{"Username": 1, "Secret": "{SECRET}"}}'""", "answered something else"),
        ("exec yes", "more than 65536 bytes"),
        ("sleep 60 & sleep 60", r"did not answer within 0\.2 s"),
    ],
    ids=["exit", "no JSON", "no text", "endless", "hangs"],
)
def test_a_helper_that_misbehaves_is_named_and_not_quoted(tmp_path: Path, body: str, message: str) -> None:
    script(tmp_path / "bin", "x", body)
    limit = 0.2 if "sleep" in body else 30
    with pytest.raises(CredentialsInvalid, match=message) as caught:
        ask_helper("x", "r", environ(tmp_path), where="f", timeout=limit)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "x;id", "", "-x", "x y", "x\n"])
def test_the_name_of_a_helper_is_no_command(tmp_path: Path, name: str) -> None:
    with pytest.raises(CredentialsInvalid, match="cannot be the name"):
        ask_helper(name, "r", environ(tmp_path), where="f")


def test_a_missing_helper_is_an_error_and_a_missing_store_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {"credHelpers": {"quay.io": "gone"}, "credsStore": "desktop", "auths": {"r": {"auth": auth()}}}
    file = parse_credentials(json.dumps(content), "f")
    with pytest.raises(CredentialsInvalid, match="docker-credential-gone is not on PATH"):
        file.find("quay.io", "", environ(tmp_path))
    assert file.find("r", "", environ(tmp_path)) == Credential("alice", SECRET)
    assert "docker-credential-desktop is not on PATH" in caplog.text


def test_a_helper_is_asked_again_after_a_while(tmp_path: Path) -> None:
    count = tmp_path / "count"
    script(tmp_path / "bin", "x", f"""echo . >> {count}; echo '{{"Username": "u", "Secret": "s"}}'""")
    write(tmp_path / ".docker/config.json", json.dumps({"credHelpers": {"r": "x"}}))
    time = FakeTime()
    credentials = StandardCredentials(None, environ(tmp_path), time.clock)
    for _ in range(3):
        credentials.find("r")
    assert count.read_text() == ".\n"
    time.sleep(601)
    credentials.find("r")
    assert count.read_text() == ".\n.\n"


def test_nothing_secret_shows_in_a_credential() -> None:
    credential = Credential("alice", SECRET, identity_token=SECRET, registry_token=SECRET)
    assert SECRET not in repr(credential)
    assert SECRET not in str(credential)
