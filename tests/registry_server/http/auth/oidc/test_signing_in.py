"""Signing in with the token of an OpenID provider: as bearer token, as password, by real clients."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.demo.sample_images import layer
from registry_server.http.auth.access_options import AccessOptions
from tests.registry_server.http.auth.oidc.issuer import http_section
from tests.registry_server.http.auth.support import USERS, guarded, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registry_server.http.auth.oidc.issuer import Issuer
    from tests.support.registries import Registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Registry]:
    """`ci` may push below team/, and `robot` may read everything."""
    mapping = {"username": "claims.sub", "groups": "has(claims.groups) ? claims.groups : []"}
    section = http_section(issuer, mapping, htpasswd={"path": "htpasswd"})
    with guarded(tmp_path_factory.mktemp("registry"), section) as running:
        add_image(running)
        yield running


def add_image(registry: Registry) -> None:
    maker = registry.maker("library/app")
    maker.tag(maker.image([layer("one", 1000)]), "1.0")


def get(registry: Registry, token: str, path: str = "/v2/library/app/tags/list") -> httpx.Response:
    return registry.client.get(path, headers={"Authorization": f"Bearer {token}"})


def test_a_token_is_accepted_as_it_is(registry: Registry, issuer: Issuer) -> None:
    assert get(registry, issuer.token()).json()["tags"] == ["1.0"]
    assert get(registry, issuer.token(), "/v2/").status_code == 200
    assert get(registry, issuer.token(sub="somebody")).status_code == 404  # as if it were not there
    before = issuer.fetches()
    assert get(registry, issuer.token()).status_code == 200
    assert issuer.fetches() == before


def test_a_token_is_accepted_as_password_whatever_the_user(registry: Registry, issuer: Issuer) -> None:
    challenge = registry.client.get("/v2/").headers["WWW-Authenticate"]
    realm = challenge.split('"')[1]
    query = {"scope": "repository:library/app:pull"}
    answer = httpx.get(realm, params=query, auth=("oauth", issuer.token()))
    assert get(registry, answer.json()["token"]).json()["tags"] == ["1.0"]
    basic = registry.client.get("/v2/library/app/tags/list", auth=("oauth", issuer.token()))
    assert basic.status_code == 200
    form = {"grant_type": "password", "username": "oauth", "password": issuer.token(), **query}
    assert get(registry, httpx.post(realm, data=form).json()["access_token"]).status_code == 200


def test_groups_of_a_token_are_groups_of_policies(registry: Registry, issuer: Issuer) -> None:
    uploads = "/v2/team/app/blobs/uploads/"

    def push(token: str) -> int:
        return registry.client.post(uploads, headers={"Authorization": f"Bearer {token}"}).status_code

    assert push(issuer.token(groups=["ci"])) == 202
    assert push(issuer.token(groups=["others"])) == 403
    realm = registry.client.get("/v2/").headers["WWW-Authenticate"].split('"')[1]
    query = {"scope": "repository:team/app:pull,push"}
    issued = httpx.get(realm, params=query, auth=("x", issuer.token(groups=["ci"]))).json()["token"]
    assert push(issued) == 202


def test_a_token_of_ours_ends_no_later_than_what_it_was_given_for(registry: Registry, issuer: Issuer) -> None:
    import time

    realm = registry.client.get("/v2/").headers["WWW-Authenticate"].split('"')[1]
    answer = httpx.get(realm, auth=("x", issuer.token(exp=int(time.time()) + 90))).json()
    assert 0 < answer["expires_in"] <= 90


def test_users_with_passwords_sign_in_beside(registry: Registry) -> None:
    answer = registry.client.get("/v2/", auth=("alice", USERS["alice"]))
    assert answer.status_code == 200
    assert registry.client.get("/v2/", auth=("alice", "wrong")).status_code == 401


def test_without_a_mapping_the_user_is_issuer_and_subject(tmp_path: Path, issuer: Issuer) -> None:
    with guarded(tmp_path, http_section(issuer)) as registry:
        add_image(registry)
        assert get(registry, issuer.token()).status_code == 200
    assert registry.requests.all()[-1]["user"] == f"{issuer.url}/robot"


def test_conditions_of_the_profile_hold_for_every_token(tmp_path: Path, issuer: Issuer) -> None:
    mapping = {
        "variables": [{"name": "owner", "expression": "claims.repository_owner"}],
        "validations": [
            {"expression": "vars.owner == 'my-org'", "message": "only my-org may"},
            {"expression": "!has(claims.part) || 10 / claims.part > 1", "message": "a tenth at most"},
        ],
        "username": "claims.sub",
    }
    with guarded(tmp_path, http_section(issuer, mapping)) as registry:
        assert get(registry, issuer.token(repository_owner="my-org"), "/v2/").status_code == 200
        other = get(registry, issuer.token(repository_owner="another"), "/v2/")
        assert (other.status_code, other.json()["errors"][0]["message"]) == (401, "only my-org may")
        nothing = get(registry, issuer.token(repository_owner="my-org", part=0), "/v2/")
        assert (nothing.status_code, "a tenth" in nothing.text) == (401, True)
        none = get(registry, issuer.token(), "/v2/")
        assert "do not give the variable owner" in none.json()["errors"][0]["message"]


def test_any_of_the_issuers_keys_may_sign(registry: Registry, issuer: Issuer) -> None:
    assert get(registry, issuer.token(kid="ec", algorithm="ES256")).status_code == 200
    assert get(registry, issuer.token(kid=None)).status_code == 200


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("skopeo", "inspect --tls-verify=false --creds oauth:{token} docker://{host}/library/app:1.0"),
        ("crane", "manifest --insecure {host}/library/app:1.0"),
    ],
)
def test_real_clients_sign_in_with_a_token_as_password(
    registry: Registry, issuer: Issuer, tmp_path: Path, program: str, command: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not there")
    known = {"host": registry.host, "token": issuer.token()}
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "DOCKER_CONFIG": str(tmp_path)}
    if program == "crane":
        login = ["crane", "auth", "login", registry.host, "-u", "oauth", "-p", known["token"]]
        subprocess.run(login, check=True, capture_output=True, env=environment)
    words = [program, *command.format(**known).split()]
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_the_options_survive_the_way_to_a_child_process(tmp_path: Path, issuer: Issuer) -> None:
    mapping: dict[str, Any] = {
        "username": "vars.a",
        "groups": "['x']",
        "variables": [{"name": "a", "expression": "claims.sub"}],
        "validations": [{"expression": "true", "message": "m"}],
    }
    access = options_of(tmp_path, http_section(issuer, mapping)).access
    assert access is not None
    assert access.issuers
    assert AccessOptions.from_json(access.to_json()) == access
