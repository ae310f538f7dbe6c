"""Tokens that somebody made up, changed or stole: each is 401 with words that help, and shows nothing."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.registry_server.http.auth.oidc.issuer import (
    STRANGER,
    Issuer,
    http_section,
    public,
)
from tests.registry_server.http.auth.support import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.registries import Registry


@pytest.fixture(scope="module")
def registry(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with guarded(tmp_path_factory.mktemp("oidc"), http_section(issuer)) as running:
        yield running


def _pem(issuer: Issuer) -> bytes:
    key = issuer.keys["k1"].public_key()
    pem: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def _by_hmac_with_the_public_key(issuer: Issuer) -> str:
    """CVE-2015-9235: PyJWT refuses to make it, so it is made by hand."""
    import hashlib
    import hmac

    head, claims, _ = issuer.token().split(".")
    head = _encoded({"alg": "HS256", "typ": "JWT", "kid": "k1"})
    signature = hmac.digest(_pem(issuer), f"{head}.{claims}".encode(), hashlib.sha256)
    return f"{head}.{claims}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _encoded(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _with_its_own_key(issuer: Issuer) -> str:
    headers = {"kid": "k1", "jwk": public("k1", STRANGER), "jku": "http://127.0.0.1:1/keys"}
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    return jwt.encode(claims, STRANGER, algorithm="RS256", headers=headers)


def _changed(issuer: Issuer) -> str:
    head, claims, signature = issuer.token().split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"sub": "admin"}
    return f"{head}.{_encoded(said)}.{signature}"


def _unsigned(claims: Any) -> str:
    return f"x.{_encoded(claims)}.y"


def _of_rsa_with_the_id_of_ec(issuer: Issuer) -> str:
    return issuer.token(key=issuer.keys["k1"], kid="ec")


_NOW = time.time()
_NONE_OF_THE_KEYS = "the token was signed with none of its issuer's keys"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(
            lambda i: i.token(algorithm="none", kid=None), "an algorithm that is not", id="alg none"
        ),
        pytest.param(_by_hmac_with_the_public_key, "an algorithm that is not accepted", id="HMAC confusion"),
        pytest.param(_with_its_own_key, _NONE_OF_THE_KEYS, id="a key of its own (jwk, jku)"),
        pytest.param(_changed, _NONE_OF_THE_KEYS, id="changed claims"),
        pytest.param(lambda i: i.token(key=STRANGER), _NONE_OF_THE_KEYS, id="signed by somebody else"),
        pytest.param(lambda i: i.token(kid="unknown"), _NONE_OF_THE_KEYS, id="a key id that is not known"),
        pytest.param(_of_rsa_with_the_id_of_ec, _NONE_OF_THE_KEYS, id="RSA, and the id of an EC key"),
        pytest.param(lambda i: i.token(aud="https://other"), "for another audience", id="another audience"),
        pytest.param(lambda i: i.token(exp=int(_NOW) - 120), "has expired", id="expired"),
        pytest.param(lambda i: i.token(nbf=int(_NOW) + 600), "not valid yet", id="not valid yet"),
        pytest.param(lambda i: i.token(iat=int(_NOW) + 600), "not valid yet", id="from the future"),
        pytest.param(lambda i: i.token(exp=None), "lacks one of the claims", id="no end"),
        pytest.param(lambda i: i.token(aud=None), "lacks one of the claims", id="no audience"),
        pytest.param(lambda i: i.token(sub=None), "lacks one of the claims", id="no subject"),
        pytest.param(lambda i: i.token(sub="a\u0000b"), "name no user", id="a control character in the name"),
        pytest.param(lambda i: i.token(sub="x" * 600), "name no user", id="an endless name"),
        pytest.param(lambda i: i.token(iss="https://evil.example"), "not issued here", id="another issuer"),
        pytest.param(lambda i: i.token() + "." + "x", "not issued here", id="four parts"),
        pytest.param(lambda i: _unsigned({"iss": i.url}), "an algorithm", id="no header"),
        pytest.param(lambda _: "e30." + "W1tb" * 3000 + ".y", "not issued here", id="nested claims"),
        pytest.param(lambda i: _unsigned({"iss": [i.url]}), "not issued here", id="iss a list"),
    ],
)
def test_a_token_that_is_not_good_is_401_with_a_reason(
    registry: Registry, issuer: Issuer, make: Callable[[Issuer], str], words: str
) -> None:
    token = make(issuer)
    answer = registry.client.get("/v2/", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    [error] = answer.json()["errors"]
    assert words in error["message"]
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert token not in answer.text


def test_a_clock_that_is_a_little_wrong_does_no_harm(registry: Registry, issuer: Issuer) -> None:
    now = int(time.time())
    for token in (issuer.token(exp=now - 30), issuer.token(iat=now + 30), issuer.token(nbf=now + 30)):
        assert registry.client.get("/v2/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
