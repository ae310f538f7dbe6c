"""The token dance, and every way in which a token is not one of ours."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_server.http.auth.access_rules import ALL, READ
from registry_server.http.auth.signing_key import KeyRing
from registry_server.http.auth.token_scopes import Claims, grant_claims, required_scope
from registry_server.http.auth.tokens import TokenIssuer, TokenRefused
from tests.registry_server.http.auth.support import (
    AUTH,
    USERS,
    auth_of,
    bearer,
    guarded,
    token,
    write_users,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.registries import Registry

CONTROL = """
accessControl:
  repositories:
    "team/**": {policies: [{users: [alice], actions: [read, create]}]}
    "open/**": {anonymousPolicy: [read]}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With two workers: they share the key."""
    with guarded(tmp_path_factory.mktemp("tokens"), f"{AUTH}{CONTROL}", workers=2) as found:
        for name in ("team/app", "team/b", "open/app"):
            maker = found.maker(name)
            maker.tag(maker.image([]), "1")
        yield found


def _claims(text: str) -> dict[str, Any]:
    part = text.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_a_client_is_led_to_a_token_and_in(registry: Registry) -> None:
    refused = registry.client.get("/v2/team/app/manifests/1")
    assert refused.status_code == 401
    assert refused.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert refused.headers["WWW-Authenticate"] == (
        f'Bearer realm="{registry.url}/auth/token",service="mirrorflow",scope="repository:team/app:pull"'
    )
    text = token(registry, "alice", "repository:team/app:pull")
    for _ in range(4):
        assert registry.client.get("/v2/team/app/manifests/1", headers=bearer(text)).status_code == 200
    assert registry.client.get("/v2/", headers=bearer(text)).status_code == 200


def test_a_token_holds_for_its_repositories_only(registry: Registry) -> None:
    text = token(registry, "alice", "repository:team/app:pull")
    refused = registry.client.get("/v2/team/b/manifests/1", headers=bearer(text))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].endswith(
        'scope="repository:team/b:pull",error="insufficient_scope"'
    )
    pushing = registry.client.post("/v2/team/app/blobs/uploads/", headers=bearer(text))
    assert pushing.status_code == 401
    assert 'scope="repository:team/app:pull,push"' in pushing.headers["WWW-Authenticate"]
    catalog = registry.client.get("/v2/_catalog", headers=bearer(text))
    assert catalog.status_code == 401
    assert 'scope="registry:catalog:*"' in catalog.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("who", "scope", "actions"),
    [
        ("alice", "repository:team/app:pull", ["pull"]),
        ("alice", "repository:team/app:pull,push", ["pull", "push"]),
        ("alice", "repository:team/app:pull,push,delete,*", ["pull", "push"]),
        ("alice", "repository(plugin):team/app:pull", ["pull"]),
        ("alice", "repository:open/app:pull,push", ["pull"]),
        ("bob", "repository:team/app:pull", None),
        ("bob", "repository:team/none:pull", None),  # as one that is there
        ("", "repository:team/app:pull", None),
        ("", "repository:open/app:pull,push", ["pull"]),
        ("alice", "repository:../etc:pull", None),
        ("alice", "nonsense", None),
        ("alice", "repository:team/app", None),
    ],
)
def test_a_token_grants_what_the_policy_grants_of_what_was_asked(
    registry: Registry, who: str, scope: str, actions: list[str] | None
) -> None:
    found = _claims(token(registry, who, scope))
    assert found["sub"] == who
    assert [each["actions"] for each in found["access"]] == ([actions] if actions else [])


def test_the_form_of_oauth_works_too(registry: Registry) -> None:
    form = {"grant_type": "password", "username": "zoe", "password": USERS["zoe"], "service": "mirrorflow"}
    answer = registry.client.post(
        "/auth/token", data=form | {"scope": "repository:open/app:pull registry:catalog:*"}
    )
    assert answer.status_code == 200
    assert set(answer.json()) == {"token", "access_token", "expires_in", "issued_at"}
    assert len(_claims(answer.json()["token"])["access"]) == 2
    assert registry.client.post("/auth/token", data=form | {"password": "no"}).status_code == 401
    for wrong in (form | {"grant_type": "refresh_token"}, {}, {"grant_type": "password"}):
        assert registry.client.post("/auth/token", data=wrong).status_code == 400
    assert registry.client.post("/auth/token", content=b"x" * 100_000).status_code == 400
    assert registry.client.put("/auth/token").status_code == 405


def test_wrong_credentials_get_no_token(registry: Registry) -> None:
    for auth in [("alice", "wrong"), ("nobody", "x"), ("alice", "")]:
        answer = registry.client.get("/auth/token", auth=auth)
        assert answer.status_code == 401
        assert "Bearer" not in answer.headers["WWW-Authenticate"]  # which would lead around in a circle
    text = token(registry, "alice")
    assert registry.client.get("/auth/token", headers=bearer(text)).status_code == 401


def test_a_user_who_is_taken_away_is_out_at_once(registry: Registry) -> None:
    text = token(registry, "alice", "repository:team/app:pull")
    file = registry.store.root.parent / "htpasswd"
    try:
        write_users(file, {name: each for name, each in USERS.items() if name != "alice"})
        assert registry.client.get("/v2/team/app/manifests/1", headers=bearer(text)).status_code == 401
        assert registry.client.get("/v2/team/app/manifests/1", auth=auth_of("alice")).status_code == 401
    finally:
        write_users(file)
    assert registry.client.get("/v2/team/app/manifests/1", headers=bearer(text)).status_code == 200


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _forged(header: dict[str, Any], payload: dict[str, Any], key: Ed25519PrivateKey | None) -> str:
    signed = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(payload).encode())}"
    return f"{signed}.{_b64(key.sign(signed.encode())) if key else ''}"


_OTHER = Ed25519PrivateKey.generate()
_JWK = {"kty": "OKP", "crv": "Ed25519", "x": _b64(_OTHER.public_key().public_bytes_raw())}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a.b.c", id="nonsense"),
        pytest.param("." * 30, id="dots"),
        pytest.param("é", id="not-ascii"),
        pytest.param("A" * 20_000, id="long"),
        pytest.param(_forged({"alg": "none", "typ": "JWT"}, {"sub": "admin"}, None), id="alg-none"),
        pytest.param(_forged({"alg": "EdDSA", "typ": "JWT"}, {"sub": "admin"}, _OTHER), id="another-key"),
        pytest.param(
            _forged({"alg": "EdDSA", "typ": "JWT", "jwk": _JWK}, {"sub": "admin"}, _OTHER), id="own-jwk"
        ),
        pytest.param(
            _forged({"alg": "HS256", "typ": "JWT"}, {"sub": "admin"}, _OTHER), id="another-algorithm"
        ),
    ],
)
def test_a_token_from_elsewhere_is_refused(registry: Registry, text: str) -> None:
    """CVE-2025-24976 and its kin: nothing that a token says of itself is believed."""
    for path in ("/v2/", "/v2/open/app/tags/list"):
        answer = registry.client.get(path, headers=[(b"Authorization", b"Bearer " + text.encode())])
        assert answer.status_code == 401


def _ring(*keys: Ed25519PrivateKey) -> Callable[[], KeyRing]:
    return lambda: KeyRing.of(*keys)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_tokens_are_for_one_service_and_for_a_while() -> None:
    key, clock = Ed25519PrivateKey.generate(), Clock()
    token_issuer = TokenIssuer(_ring(key), "here", 300, clock=clock)
    issued = token_issuer.issue("alice", Claims({"a": READ, "b": ALL}, catalog=True))
    assert (issued["expires_in"], issued["issued_at"]) == (300, "1970-01-12T13:46:40Z")
    found = token_issuer.authenticate(issued["token"])
    assert (found.user, found.claims) == ("alice", Claims({"a": READ, "b": ALL}, catalog=True))
    for other in (
        TokenIssuer(_ring(key), "there", 300, clock=clock),
        TokenIssuer(_ring(_OTHER), "here", 300, clock=clock),
    ):
        with pytest.raises(TokenRefused):
            other.authenticate(issued["token"])
    clock.now += 299
    token_issuer.authenticate(issued["token"])
    clock.now += 1
    with pytest.raises(TokenRefused, match="expired"):
        token_issuer.authenticate(issued["token"])
    clock.now -= 400
    with pytest.raises(TokenRefused):
        token_issuer.authenticate(issued["token"])


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "nbf", "sub", "access"])
@pytest.mark.parametrize("value", [None, 5, "x", ["here"], {}], ids=repr)
def test_a_token_with_odd_claims_is_refused_though_it_is_signed(claim: str, value: object) -> None:
    key = Ed25519PrivateKey.generate()
    payload = {
        "iss": "mirrorflow",
        "aud": "here",
        "nbf": 0,
        "exp": 9e9,
        "sub": "a",
        "access": [],
        claim: value,
    }
    if (claim, value) in (("sub", "x"), ("nbf", 5), ("access", {})):
        return  # these are what they should be, or nothing at all
    with pytest.raises(TokenRefused):
        TokenIssuer(_ring(key), "here", 300).authenticate(
            _forged({"alg": "EdDSA", "typ": "JWT"}, payload, key)
        )


def test_a_token_that_was_tampered_with_is_refused() -> None:
    token_issuer = TokenIssuer(_ring(Ed25519PrivateKey.generate()), "here", 300)
    text = token_issuer.issue("alice", Claims({}))["token"]
    header, payload, signature = text.split(".")
    other = _b64(base64.urlsafe_b64decode(payload + "==").replace(b"alice", b"admin"))
    for forged in (
        f"{header}.{other}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[:-4]}",
    ):
        with pytest.raises(TokenRefused):
            token_issuer.authenticate(forged)


def test_scopes_and_actions_translate() -> None:
    assert required_scope("a/b", READ) == "repository:a/b:pull"
    assert required_scope("a/b", frozenset({"create"})) == "repository:a/b:pull,push"
    assert required_scope("a/b", frozenset({"delete"})) == "repository:a/b:delete"
    scopes = [f"repository:r{number}:pull" for number in range(1000)]
    assert len(grant_claims(scopes, lambda _name: ALL).repositories) == 100


def test_a_proxy_in_front_is_where_clients_are_sent(tmp_path: Path) -> None:
    with guarded(tmp_path, f"{AUTH}\nexternalUrl: https://registry.example/") as registry:
        challenge = registry.client.get("/v2/").headers["WWW-Authenticate"]
        assert challenge == 'Bearer realm="https://registry.example/auth/token",service="mirrorflow"'
        # Without an anonymous policy there is nothing that an anonymous token could be for.
        assert registry.client.get("/auth/token").status_code == 401
        assert registry.client.get("/v2/", auth=("", "")).status_code == 401


def test_the_realm_follows_the_host_that_the_client_used(registry: Registry) -> None:
    answer = httpx.get(f"{registry.url}/v2/", headers={"Host": "mirror.example:5000"})
    assert 'realm="http://mirror.example:5000/auth/token"' in answer.headers["WWW-Authenticate"]
