"""The 401 dance against a real server, and what of it happens without one."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tasks.upstream.errors import UpstreamDenied, UpstreamProtocolError, UpstreamUnavailable, Where
from tasks.upstream.login.challenge import Challenge, choose, parse_challenges
from tasks.upstream.login.token_requests import parse_token
from tests.support_behaviours import answers, endless, json_answer, redirects, says
from tests.support_misbehaving import well_behaved
from tests.tasks.upstream.clients import FakeTime, OneCredential, client

if TYPE_CHECKING:
    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

NAME = "library/nginx"
PATH = f"/v2/{NAME}/manifests/1.25"
BASIC = "Basic " + base64.b64encode(b"alice:s3cret").decode()


def needs(value: str, challenge: str) -> Behaviour:
    """401 unless Authorization is `value`."""

    def behave(exchange: Exchange) -> None:
        if exchange.seen.headers.get("authorization") == value:
            well_behaved(exchange)
        else:
            answers(401, b"", **({"WWW-Authenticate": challenge} if challenge else {}))(exchange)

    return behave


def bearer(upstream: Misbehaving, token: str = "t0ken", scope: str = f"repository:{NAME}:pull") -> Behaviour:
    realm = f'Bearer realm="http://{upstream.host}/token?account=x",service="registry",scope="{scope}"'
    return needs(f"Bearer {token}", realm)


@pytest.fixture
def image(upstream: Misbehaving) -> Misbehaving:
    upstream.add_image(NAME, "1.25")
    upstream.on(PATH, bearer(upstream))
    upstream.on("/v2/", bearer(upstream))
    upstream.on("/token", json_answer({"token": "t0ken", "expires_in": 300}))
    return upstream


def test_a_token_is_asked_for_anonymously_and_once_per_scope(image: Misbehaving) -> None:
    with client(image) as registry:
        for _ in range(3):
            registry.head(NAME, "1.25")
        assert registry.requests() == {"HEAD manifest": 4, "GET token": 1}
    asked = image.requests(path="/token")[0]
    assert asked.query == {
        "account": ["x"],
        "service": ["registry"],
        "scope": [f"repository:{NAME}:pull"],
        "client_id": ["mirrorflow"],
    }
    assert "authorization" not in asked.headers


def test_the_user_goes_to_the_token_service_and_the_token_to_the_registry(image: Misbehaving) -> None:
    with client(image, credentials=OneCredential()) as registry:
        registry.head(NAME, "1.25")
        registry.head(NAME, "1.25")
        # Known after the first answer from /v2/, so no request of the run is made in vain.
        assert registry.requests() == {"GET ping": 1, "GET token": 1, "HEAD manifest": 2}
    assert image.requests(path="/token")[0].headers["authorization"] == BASIC
    heads = image.requests("HEAD")
    assert [each.headers["authorization"] for each in heads] == ["Bearer t0ken"] * 2


def test_basic_credentials_are_sent_when_asked_for(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    for path in ("/v2/", PATH):
        upstream.on(path, needs(BASIC, 'Basic realm="here"'))
    with client(upstream, credentials=OneCredential()) as registry:
        registry.head(NAME, "1.25")
    assert "authorization" not in upstream.seen[0].headers


def test_a_registry_that_is_open_never_sees_a_password(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    with client(upstream, credentials=OneCredential()) as registry:
        registry.manifest(NAME, "1.25")
    assert all("authorization" not in each.headers for each in upstream.seen)


def test_a_password_that_is_wrong_is_sent_once(upstream: Misbehaving) -> None:
    for path in ("/v2/", PATH):
        upstream.on(path, needs("nothing will do", 'Basic realm="here"'))
    with (
        client(upstream, credentials=OneCredential()) as registry,
        pytest.raises(UpstreamDenied, match="401"),
    ):
        registry.head(NAME, "1.25")
    assert len([each for each in upstream.seen if "authorization" in each.headers]) == 1


def test_basic_without_credentials_says_where_to_put_them(upstream: Misbehaving) -> None:
    upstream.on(PATH, needs(BASIC, 'Basic realm="here"'))
    with client(upstream) as registry, pytest.raises(UpstreamDenied, match="credentialsFile"):
        registry.head(NAME, "1.25")


def test_a_token_that_helps_nothing_is_not_asked_for_again(image: Misbehaving) -> None:
    image.on(PATH, bearer(image, token="another"))
    with client(image) as registry, pytest.raises(UpstreamDenied):
        registry.head(NAME, "1.25")
    assert len(image.requests(path="/token")) == 1
    assert len(image.requests("HEAD")) == 2


@pytest.mark.parametrize("ask", ["head", "manifest"])
def test_the_answer_of_a_token_service_is_never_taken_for_that_of_the_registry(
    image: Misbehaving, ask: str
) -> None:
    with client(image) as registry:
        registry.head(NAME, "1.25")
        image.on(PATH, bearer(image, token="another"))
        # The token is the same as the one that was refused, so the request is not made again.
        with pytest.raises(UpstreamDenied, match="401 Unauthorized"):
            getattr(registry, ask)(NAME, "1.25")
    assert len(image.requests(path="/token")) == 2


def echoes(exchange: Exchange) -> None:
    """Refuses, and says back what it was sent."""
    sent = f"{exchange.seen.headers.get('authorization', '')} {exchange.seen.body.decode()}"
    _, _, credential = sent.partition("Basic ")
    decoded = base64.b64decode(credential.split()[0]).decode() if credential.strip() else ""
    says(418, "DENIED", f"not with {sent} {decoded}")(exchange)


@pytest.mark.parametrize(
    ("path", "challenge", "secrets"),
    [
        (PATH, 'Basic realm="x"', {}),
        (PATH, "Bearer", {}),
        ("/token", "Bearer", {}),
        ("/token", "Bearer", {"identity_token": "refr3sh"}),
        (PATH, "", {"registry_token": "t0ken"}),
    ],
    ids=["basic", "bearer", "token service", "identity token", "registry token"],
)
def test_a_secret_that_is_said_back_is_not_shown(
    image: Misbehaving, path: str, challenge: str, secrets: dict[str, str]
) -> None:
    if challenge.startswith("Basic"):
        image.on("/v2/", needs(BASIC, challenge))
    image.on(path, echoes)
    with (
        client(image, credentials=OneCredential(**secrets)) as registry,
        pytest.raises(UpstreamProtocolError, match=r"DENIED: not with .*\*\*\*") as caught,
    ):
        registry.manifest(NAME, "1.25")
    for secret in ("s3cret", BASIC.partition(" ")[2], "t0ken", "refr3sh"):
        assert secret not in str(caught.value)


def test_a_token_that_has_become_invalid_is_renewed(image: Misbehaving) -> None:
    with client(image) as registry:
        registry.head(NAME, "1.25")
        image.on(PATH, bearer(image, token="new"))
        image.on("/token", json_answer({"access_token": "new", "token": ""}))
        registry.head(NAME, "1.25")
        assert registry.requests()["GET token"] == 2


def test_a_token_is_renewed_before_it_expires(image: Misbehaving) -> None:
    time = FakeTime()
    with client(image, time=time) as registry:
        registry.head(NAME, "1.25")
        time.sleep(269)
        registry.head(NAME, "1.25")
        assert registry.requests()["GET token"] == 1
        time.sleep(2)
        registry.head(NAME, "1.25")
        assert registry.requests() == {"GET token": 2, "HEAD manifest": 4}


def test_many_threads_ask_for_one_token(image: Misbehaving) -> None:
    together = threading.Barrier(4, timeout=5)
    hasty = bearer(image)

    def wait_for_all(exchange: Exchange) -> None:
        if "authorization" not in exchange.seen.headers:
            together.wait()
        hasty(exchange)

    image.on(PATH, wait_for_all)
    with client(image) as registry, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: registry.head(NAME, "1.25"), range(4)))
        assert registry.requests() == {"HEAD manifest": 8, "GET token": 1}


def test_a_401_without_a_challenge_asks_v2_for_one(image: Misbehaving) -> None:
    image.on(PATH, needs("Bearer t0ken", ""))
    with client(image) as registry:
        registry.head(NAME, "1.25")
        assert registry.requests() == {"HEAD manifest": 2, "GET ping": 1, "GET token": 1}


def test_an_identity_token_is_posted(image: Misbehaving) -> None:
    with client(image, credentials=OneCredential("", "", identity_token="refresh")) as registry:
        registry.head(NAME, "1.25")
    asked = image.requests("POST", "/token")[0]
    assert b"grant_type=refresh_token" in asked.body
    assert b"refresh_token=refresh" in asked.body


def test_a_service_that_takes_no_post_is_asked_by_get(image: Misbehaving) -> None:
    image.on("/token", answers(405), json_answer({"token": "t0ken"}))
    with client(image, credentials=OneCredential("", "", identity_token="refresh")) as registry:
        registry.head(NAME, "1.25")
    assert [each.method for each in image.requests(path="/token")] == ["POST", "GET"]


def test_a_registry_token_is_sent_as_it_is(image: Misbehaving) -> None:
    with client(image, credentials=OneCredential("", "", registry_token="t0ken")) as registry:
        registry.head(NAME, "1.25")
    assert image.requests(path="/token") == []


def test_a_registry_token_that_is_refused_is_sent_once(image: Misbehaving) -> None:
    with (
        client(image, credentials=OneCredential("", "", registry_token="old")) as registry,
        pytest.raises(UpstreamDenied, match="401"),
    ):
        registry.head(NAME, "1.25")
    assert len(image.requests("HEAD")) == 1


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (answers(404), UpstreamDenied, "token service 127.0.0.1: 404"),
        (says(401, "UNAUTHORIZED", "who?"), UpstreamDenied, "gives no token"),
        (answers(403), UpstreamDenied, "gives no token for repository:library/nginx:pull as 'alice'"),
        (answers(503), UpstreamUnavailable, "token service 127.0.0.1: 503"),
        (answers(200, b"[]"), UpstreamProtocolError, "not a JSON object"),
        (answers(200, b"{}"), UpstreamProtocolError, "without a token"),
        (json_answer({"token": "a\r\nX-Evil: 1"}), UpstreamProtocolError, "without a token"),
        (endless(), UpstreamProtocolError, "more than 1048576 bytes"),
        (redirects("http://127.0.0.1:1/elsewhere"), UpstreamProtocolError, "307"),
    ],
    ids=["404", "401", "403", "503", "no object", "no token", "header injection", "endless", "redirect"],
)
def test_a_token_service_that_misbehaves(
    image: Misbehaving, behaviour: Behaviour, kind: type[Exception], message: str
) -> None:
    image.on("/token", behaviour)
    with client(image, credentials=OneCredential()) as registry, pytest.raises(kind, match=message) as caught:
        registry.head(NAME, "1.25")
    assert str(caught.value).startswith(f"{image.host}: {NAME}:1.25: ")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/t",service="s"', [("bearer", {"realm": "https://a/t", "service": "s"})]),
        ('bearer REALM=x , scope="a:b:pull,push"', [("bearer", {"realm": "x", "scope": "a:b:pull,push"})]),
        ('Basic realm="a \\"b\\" c"', [("basic", {"realm": 'a "b" c'})]),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Negotiate", [("negotiate", {})]),
        ('Bearer realm="unfinished', [("bearer", {})]),
        ("", []),
        ("=,=,", []),
        ('"' * 100_000, []),
        ("Bearer " + "a=b," * 100_000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_challenges_are_read_as_rfc_9110_has_them(
    header: str, expected: list[tuple[str, dict[str, str]]] | None
) -> None:
    found = parse_challenges([header])
    if expected is not None:
        assert found == [Challenge(scheme, parameters) for scheme, parameters in expected]


def test_a_token_is_preferred_to_a_password() -> None:
    assert choose(parse_challenges(["Basic realm=x", "Bearer realm=y"])) == Challenge(
        "bearer", {"realm": "y"}
    )
    assert choose(parse_challenges(["Negotiate"])) is None


@pytest.mark.parametrize(
    ("answer", "life"),
    [
        ({"token": "a"}, 50),
        ({"token": "a", "expires_in": 1}, 50),
        ({"token": "a", "expires_in": 1000}, 900),
        ({"token": "a", "expires_in": "soon"}, 50),
        ({"token": "a", "expires_in": True}, 50),
        ({"token": "a", "expires_in": 10**9}, 24 * 3600 * 0.9),
        ({"token": "a", "expires_in": float("nan")}, 50),
    ],
    ids=str,
)
def test_a_token_lives_a_little_shorter_than_promised(answer: dict[str, Any], life: float) -> None:
    token = parse_token(json.dumps(answer).encode(), 100, Where("r"))
    assert token.expires == pytest.approx(100 + life)
    assert "'a'" not in repr(token)
