"""What a running `up` takes for a change of its profile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flows.lifecycle.profile_watch import ProfileWatch, named_files
from profiles.loader import parse_profile
from tests.profiles.model.trust.test_fingerprint import pem, revocation_list
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.model.profile import Profile


def test_a_change_is_noticed_once_and_not_while_it_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1")
    watch = ProfileWatch(path)
    assert not watch.changed()
    path.write_text("2 is longer")
    assert [watch.changed() for _ in range(4)] == [False, True, False, False]
    path.unlink()
    assert [watch.changed() for _ in range(3)] == [False, False, False]
    path.write_text("2 is longer")
    assert not any(watch.changed() for _ in range(3)), "the same content in another file"
    path.write_text("3 is longer still")
    assert [watch.changed() for _ in range(3)] == [False, True, False]


def _naming(path: Path, parts: dict[str, Any]) -> Profile:
    parts = {"storage": {"rootDirectory": "store"}} | parts
    return parse_profile(json.dumps(parts), path).profile


def test_a_file_that_the_profile_names_is_followed_as_long_as_it_is_named(tmp_path: Path) -> None:
    path, secret = tmp_path / "profile.json", tmp_path / "credentials.json"
    path.write_text("{}")
    secret.write_text("1")
    watch = ProfileWatch(path)
    watch.accepted(_naming(path, {"sync": {"credentialsFile": secret.name, "registries": []}}))
    secret.write_text("2 is longer")
    assert [watch.changed() for _ in range(3)] == [False, True, False]
    watch.accepted(_naming(path, {}))
    secret.write_text("3 is longer still")
    assert not any(watch.changed() for _ in range(3))


def test_a_refused_profile_is_tried_again_until_it_is_accepted(tmp_path: Path) -> None:
    """The file that it lacked may come later."""
    path = tmp_path / "profile.json"
    path.write_text("{}")
    watch = ProfileWatch(path)
    watch.refused()
    assert [watch.changed() for _ in range(6)] == [False] * 4 + [True, True]
    watch.accepted(_naming(path, {}))
    assert not any(watch.changed() for _ in range(9))


def trust(kind: str, **named: Any) -> dict[str, Any]:
    return {"trust": {kind: named}}


_ENTRY = {"urls": ["https://registry.example"], "certDir": "certs"}
_HOOK = {"address": "127.0.0.1", "port": 8090, "secretFile": "hook"}
_X509 = {"name": "ca", "type": "x509", "subjectEmail": "a@b.example", "roots": ["a.crt"]}
_SIGNED = {"from": [_X509 | {"intermediates": ["b.crt"]}]}


@pytest.mark.parametrize(
    ("parts", "files"),
    [
        pytest.param({}, [], id="the store is no part of the profile"),
        pytest.param({"log": {"access": "access.log"}}, [], id="what is written"),
        pytest.param({"sync": {"downloadDir": "dl", "registries": []}}, [], id="a folder that is not used"),
        pytest.param({"sync": {"credentialsFile": "c", "registries": []}}, ["c"], id="credentials"),
        pytest.param({"sync": {"registries": [_ENTRY]}}, ["certs"], id="certificates for an upstream"),
        pytest.param({"sync": {"registries": [], "notifications": _HOOK}}, ["hook"], id="notifications"),
        pytest.param({"http": {"tls": {"cert": "a", "key": "b", "cacert": "c"}}}, ["a", "b", "c"], id="TLS"),
        pytest.param({"http": {"auth": {"htpasswd": {"path": "users"}}}}, ["users"], id="users"),
        pytest.param(trust("keys", a={"file": "a.pub"}), ["a.pub"], id="keys"),
        pytest.param(trust("sigstore", r={"file": "root.json"}), ["root.json"], id="a trusted root"),
        pytest.param(trust("sigstore", r={"rekorKeys": ["a.pub"]}), ["a.pub"], id="keys of a log"),
        pytest.param(trust("notation", ca={"a": ["a.crt", "b.crt"]}), ["a.crt", "b.crt"], id="notation ca"),
        pytest.param(trust("notation", signingAuthority={"a": ["a.crt"]}), ["a.crt"], id="signing authority"),
        pytest.param(trust("notation", tsa={"a": ["a.crt"]}), ["a.crt"], id="timestamp authority"),
        pytest.param(trust("notation", crls=["a.crl"]), ["a.crl"], id="revocation lists"),
        pytest.param(
            {"verify": {"rules": [{"match": ["**"], "signatures": _SIGNED}]}},
            ["a.crt", "b.crt"],
            id="certificates of a signer",
        ),
    ],
)
def test_every_file_that_a_profile_reads_is_followed(
    tmp_path: Path, parts: dict[str, Any], files: list[str]
) -> None:
    (tmp_path / "a.pub").write_text(pem())
    (tmp_path / "root.json").write_text('{"tlogs": ["a"]}')
    revocation_list(tmp_path, "a.crl")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.crt").write_bytes(Authority(tmp_path / name, name).cert.read_bytes())
    named = named_files(_naming(tmp_path / "p.json", parts))
    assert named == tuple(tmp_path / file for file in files)
