"""The `oauth2` helper against a token endpoint: what it sends, what it makes of answers, what it shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from profiles.model.credential_helper import JWT_BEARER, TOKEN_EXCHANGE, OAuth2Helper
from tasks.upstream.errors import CredentialsInvalid, CredentialsUnavailable
from tasks.upstream.login.identities.oauth2 import OAuth2Issuer
from tests.support_behaviours import answers, endless, json_answer, redirects, resets
from tests.support_misbehaving import misbehaving
from tests.tasks.runs import sync
from tests.tasks.upstream.login.identities.stand_ins import NAME, RULE, basic, form, guard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving


@pytest.fixture
def endpoint() -> Iterator[Misbehaving]:
    with misbehaving("127.0.0.2") as server:
        server.on("/token", json_answer({"access_token": "the-token", "expires_in": 600}))
        yield server


def helper(folder: Path, endpoint: Misbehaving, **more: Any) -> OAuth2Helper:
    (folder / "assertion").write_text("assertion-of-the-platform\n")
    found = {"tokenURL": f"http://{endpoint.host}/token", "assertionFile": str(folder / "assertion"), **more}
    return OAuth2Helper.model_validate(found)


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        pytest.param(
            {"clientId": "mirror", "scopes": ["read", "list"]},
            {
                "grant_type": "client_credentials",
                "client_assertion": "assertion-of-the-platform",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_id": "mirror",
                "scope": "read list",
            },
            id="as the client's login",
        ),
        pytest.param(
            {"grantType": JWT_BEARER},
            {"grant_type": JWT_BEARER, "assertion": "assertion-of-the-platform"},
            id="as a grant",
        ),
        pytest.param(
            {"grantType": TOKEN_EXCHANGE, "audience": "//iam/pool"},
            {
                "grant_type": TOKEN_EXCHANGE,
                "subject_token": "assertion-of-the-platform",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "audience": "//iam/pool",
            },
            id="token exchange",
        ),
    ],
)
def test_each_grant_sends_the_assertion_in_its_own_way(
    tmp_path: Path, endpoint: Misbehaving, settings: dict[str, Any], sent: dict[str, str]
) -> None:
    found: list[dict[str, str]] = []

    def behave(exchange: Exchange) -> None:
        found.append(form(exchange))
        json_answer({"access_token": "the-token", "expires_in": 600})(exchange)

    endpoint.on("/token", behave)
    issued = OAuth2Issuer(helper(tmp_path, endpoint, **settings)).issue("registry.example")
    assert found == [sent]
    assert (issued.credential.username, issued.credential.password) == ("<token>", "the-token")


def test_a_statement_is_signed_anew_for_every_request(tmp_path: Path, endpoint: Misbehaving) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    said = {"privateKeyFile": "key.pem", "algorithm": "ES256", "keyId": "k1"}
    (tmp_path / "signing.json").write_text(json.dumps(said))
    settings = OAuth2Helper.model_validate(
        {
            "tokenURL": f"http://{endpoint.host}/token",
            "signingFile": str(tmp_path / "signing.json"),
            "clientId": "mirror",
        }
    )
    for _ in range(2):
        OAuth2Issuer(settings).issue("registry.example")
    claims = []
    for request in endpoint.requests("POST"):
        from urllib.parse import parse_qs

        text = parse_qs(request.body.decode())["client_assertion"][0]
        assert jwt.get_unverified_header(text)["kid"] == "k1"
        audience = f"http://{endpoint.host}/token"
        claims.append(jwt.decode(text, key.public_key(), algorithms=["ES256"], audience=audience))
    assert {each["iss"] for each in claims} == {each["sub"] for each in claims} == {"mirror"}
    assert len({each["jti"] for each in claims}) == 2


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        pytest.param(
            answers(400, b'{"error": "invalid_client", "error_description": "expired assertion"}'),
            CredentialsInvalid,
            "gives no token to the client 'mirror': 400: expired assertion",
            id="refused",
        ),
        pytest.param(answers(503), CredentialsUnavailable, "503", id="down"),
        pytest.param(resets, CredentialsUnavailable, "credentialHelper oauth2: http://127", id="cut"),
        pytest.param(json_answer([]), CredentialsInvalid, "answered without a token", id="a list"),
        pytest.param(
            json_answer({"access_token": "a\nb"}), CredentialsInvalid, "without a token", id="two lines"
        ),
        pytest.param(answers(200, b"[" * 9999), CredentialsInvalid, "without a token", id="nested deeply"),
        pytest.param(endless(), CredentialsInvalid, "without a token", id="endless"),
        pytest.param(redirects("http://127.0.0.1:1/"), CredentialsInvalid, "307", id="sent elsewhere"),
    ],
)
def test_an_endpoint_that_gives_no_token_is_one_clear_error(
    tmp_path: Path, endpoint: Misbehaving, behaviour: Behaviour, kind: type[Exception], words: str
) -> None:
    endpoint.on("/token", behaviour)
    with pytest.raises(CredentialsInvalid) as found:
        OAuth2Issuer(helper(tmp_path, endpoint, clientId="mirror")).issue("registry.example")
    assert type(found.value) is kind
    assert words in str(found.value)
    assert "assertion-of" not in str(found.value)


def test_exceptions_of_the_proxy_that_python_cannot_read_are_read(
    tmp_path: Path, endpoint: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "[::1],127.0.0.0/8")
    issued = OAuth2Issuer(helper(tmp_path, endpoint)).issue("registry.example")
    assert issued.credential.password == "the-token"


def test_a_host_that_cannot_be_a_name_is_a_clear_error(tmp_path: Path, endpoint: Misbehaving) -> None:
    settings = helper(tmp_path, endpoint).model_copy(update={"token_url": f"http://{'x' * 64}/"})
    with pytest.raises(CredentialsUnavailable, match="label too long"):
        OAuth2Issuer(settings).issue("registry.example")


def test_a_proxy_that_is_none_is_a_clear_error(
    tmp_path: Path, endpoint: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://proxy.example")
    monkeypatch.setenv("NO_PROXY", "")
    settings = helper(tmp_path, endpoint).model_copy(update={"token_url": "http://token.example/"})
    with pytest.raises(CredentialsInvalid, match="HTTP_PROXY: a proxy of the kind 'gopher'"):
        OAuth2Issuer(settings).issue("registry.example")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        pytest.param('{"algorithm": "none"}', "`algorithm` is none of ES256", id="no signature"),
        pytest.param('{"algorithm": "HS256"}', "`algorithm` is none of ES256", id="a shared secret"),
        pytest.param('{"privateKeyFile": "signing.json"}', "is no key for RS256", id="no key"),
        pytest.param('{"privateKeyFile": "gone"}', "cannot be read", id="no file"),
        pytest.param("[]", "is not a JSON object", id="a list"),
    ],
)
def test_a_signing_file_that_cannot_be_used_is_named(
    tmp_path: Path, endpoint: Misbehaving, said: str, words: str
) -> None:
    (tmp_path / "signing.json").write_text(said)
    found = {"tokenURL": f"http://{endpoint.host}/token", "signingFile": str(tmp_path / "signing.json")}
    with pytest.raises(CredentialsInvalid, match=words):
        OAuth2Issuer(OAuth2Helper.model_validate(found)).issue("registry.example")


def test_a_run_logs_in_with_the_token(tmp_path: Path, upstream: Misbehaving, endpoint: Misbehaving) -> None:
    guard(upstream, "Basic realm=r", lambda value: value == basic("ci", "the-token"))
    (tmp_path / "assertion").write_text("assertion-of-the-platform")
    settings = {"tokenURL": f"http://{endpoint.host}/token", "assertionFile": "assertion", "username": "ci"}
    report = sync(tmp_path, upstream, RULE, credentialHelper="oauth2", oauth2CredentialHelper=settings)
    assert report.complete, report
    assert upstream.requests("HEAD", NAME)
