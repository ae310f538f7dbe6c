"""Being sent to other places: redirects, token services, next pages."""

from __future__ import annotations

import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

import httpx
import pytest

from tasks.upstream.connection.addresses import Nearness, check_address, nearness
from tasks.upstream.errors import UpstreamProtocolError, UpstreamUnavailable, Where
from tasks.upstream.login.realm import check_realm, related
from tasks.upstream.redirects import redirected
from tests.support_behaviours import answers, json_answer, redirects
from tests.support_misbehaving import well_behaved
from tests.tasks.upstream.clients import OneCredential, client
from tests.tasks.upstream.login.test_auth import BASIC, bearer, needs
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from tests.support_misbehaving import Exchange, Misbehaving

NAME = "library/nginx"
PATH = f"/v2/{NAME}/manifests/1.25"
HERE = Where("registry.example", NAME)


def test_a_blob_is_followed_to_another_host_without_credentials(
    upstream: Misbehaving, other: Misbehaving
) -> None:
    blob = upstream.add_blob(NAME, b"0123456789")
    other.add_blob(NAME, b"0123456789")
    path = f"/v2/{NAME}/blobs/{blob.digest}"
    upstream.on("/v2/", needs(BASIC, "Basic realm=x"))
    upstream.on(path, redirects(f"http://{other.host}{path}?X-Amz-Signature=abc"))
    sink = MemorySink(b"01234")
    with client(upstream, credentials=OneCredential()) as registry:
        assert registry.blob(NAME, blob, sink) == 5
        assert registry.requests() == {"GET ping": 1, "GET blob": 1, "bytes": 5}
    assert upstream.requests(path="/blobs/")[0].headers["authorization"] == BASIC
    (elsewhere,) = other.seen
    assert "authorization" not in elsewhere.headers
    assert elsewhere.headers["host"] == other.host
    assert elsewhere.headers["range"] == "bytes=5-"


def test_a_redirect_within_the_registry_keeps_the_credentials(upstream: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.on("/v2/", needs(BASIC, "Basic realm=x"))
    upstream.on(PATH, redirects("/moved"))
    upstream.on("/moved", answers(200, b"{}"))
    with client(upstream, credentials=OneCredential()) as registry:
        registry.manifest(NAME, "1.25")
    assert upstream.requests(path="/moved")[0].headers["authorization"] == BASIC


def test_an_error_at_another_port_of_the_host_names_it(upstream: Misbehaving) -> None:
    """Otherwise it would say that the registry refuses connections, while that answers."""
    upstream.on(PATH, redirects("http://127.0.0.1:1/moved"))
    with client(upstream) as registry, pytest.raises(UpstreamUnavailable) as caught:
        registry.manifest(NAME, "1.25")
    assert "at 127.0.0.1:1, where it sends us: connection refused" in str(caught.value)


def test_an_address_that_expires_is_asked_for_again_on_resumption(
    upstream: Misbehaving, other: Misbehaving
) -> None:
    blob = upstream.add_blob(NAME, b"0123456789")
    other.add_blob(NAME, b"0123456789")
    path = f"/v2/{NAME}/blobs/{blob.digest}"
    upstream.on(path, redirects(f"http://{other.host}{path}?1"), redirects(f"http://{other.host}{path}?2"))
    other.on(path, answers(503), well_behaved)
    with client(upstream) as registry:
        registry.blob(NAME, blob, MemorySink())
    assert [each.target for each in other.seen] == [f"{path}?1", f"{path}?2"]


def test_a_redirect_to_a_forbidden_address_makes_no_connection(upstream: Misbehaving) -> None:
    upstream.on(PATH, redirects("http://169.254.169.254/latest/meta-data"))
    with client(upstream) as registry, pytest.raises(UpstreamProtocolError, match=r"forbidden address \(169"):
        registry.manifest(NAME, "1.25")


def test_the_body_of_a_redirect_that_comes_byte_by_byte_is_not_waited_for(upstream: Misbehaving) -> None:
    """It would cost a slot for hours, and a stop would have to wait for it."""
    was_left = SimpleQueue[bool]()

    def drips(exchange: Exchange) -> None:
        answers(307, b"", Location="/moved", Content_Length="100")(exchange)
        with suppress(OSError):
            for _ in range(100):
                exchange._handler.wfile.write(b" ")
                time.sleep(0.05)
            was_left.put(False)
        was_left.put(True)
        exchange.close()

    upstream.on(PATH, drips)
    upstream.on("/moved", json_answer({}))
    with client(upstream) as registry:
        assert registry.manifest(NAME, "1.25").body == b"{}"
    assert was_left.get(timeout=30)


@pytest.mark.parametrize(
    "location", ["", "ftp://elsewhere/x", "http://u:p@elsewhere/", "http://[", "//", ":http://]@@"]
)
def test_a_redirect_to_nowhere_is_refused(upstream: Misbehaving, location: str) -> None:
    upstream.on(PATH, redirects(location))
    with client(upstream) as registry, pytest.raises(UpstreamProtocolError):
        registry.manifest(NAME, "1.25")


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ("https://a.example/v2/x", "https://a.example/y", True),
        ("https://a.example/v2/x", "https://a.example:443/y", True),
        ("https://a.example/v2/x", "https://a.example:444/y", False),
        ("http://a.example/v2/x", "https://a.example/y", False),
        ("https://a.example/v2/x", "https://b.example/y", False),
        ("https://a.example/v2/x", "https://a.example.evil/y", False),
    ],
)
def test_credentials_stay_with_scheme_host_and_port(source: str, target: str, kept: bool) -> None:  # noqa: FBT001 - a table
    request = httpx.Request("GET", source, headers={"Authorization": "x", "Cookie": "y", "Range": "bytes=1-"})
    moved = redirected(request, httpx.Response(307, headers={"Location": target}), HERE)
    assert ("Authorization" in moved.headers, "Cookie" in moved.headers) == (kept, kept)
    assert moved.headers["Range"] == "bytes=1-"
    assert moved.headers["Host"] == moved.url.netloc.decode()


def test_a_redirect_never_leaves_https() -> None:
    request = httpx.Request("GET", "https://a.example/")
    with pytest.raises(UpstreamProtocolError, match="from https to http"):
        redirected(request, httpx.Response(302, headers={"Location": "http://a.example/"}), HERE)


def test_credentials_never_go_to_a_token_service_elsewhere(upstream: Misbehaving, other: Misbehaving) -> None:
    upstream.add_image(NAME, "1.25")
    for path in ("/v2/", PATH):
        upstream.on(path, bearer(other))
    with (
        client(upstream, credentials=OneCredential()) as registry,
        pytest.raises(UpstreamProtocolError, match="must not see the credentials") as caught,
    ):
        registry.head(NAME, "1.25")
    assert other.seen == []
    assert other.host in str(caught.value)


def test_without_credentials_a_token_service_elsewhere_is_asked(
    upstream: Misbehaving, other: Misbehaving
) -> None:
    upstream.add_image(NAME, "1.25")
    upstream.on(PATH, bearer(other))
    other.on("/token", json_answer({"token": "t0ken"}))
    with client(upstream) as registry:
        registry.head(NAME, "1.25")
    assert "authorization" not in other.seen[0].headers


def test_a_token_service_at_a_forbidden_address_makes_no_connection(upstream: Misbehaving) -> None:
    upstream.on(PATH, needs("Bearer x", 'Bearer realm="http://169.254.169.254/token"'))
    with client(upstream) as registry, pytest.raises(UpstreamProtocolError, match="forbidden address"):
        registry.head(NAME, "1.25")


@pytest.mark.parametrize(
    ("realm", "registry", "credentials", "refused"),
    [
        ("https://auth.docker.io/token", "https://registry-1.docker.io", True, ""),
        ("https://gitlab.example.com/jwt/auth", "https://registry.example.com:5050", True, ""),
        ("https://registry.example.com/token", "https://registry.example.com:5000", True, ""),
        ("http://registry:5001/auth", "http://registry:5000", True, ""),
        ("https://10.0.0.1:5001/auth", "https://10.0.0.1", True, ""),
        ("https://evil.example/token", "https://registry.example.com", True, "must not see"),
        ("https://evil.example/token", "https://registry.example.com", False, ""),
        ("https://b.co.uk/token", "https://registry.a.co.uk", True, "must not see"),
        ("https://auth.a.co.uk/token", "https://registry.a.co.uk", True, ""),
        ("https://evil.azurecr.io/token", "https://mine.azurecr.io", True, "must not see"),
        ("https://auth/token", "https://registry", True, "must not see"),
        ("https://10.0.0.2/token", "https://10.0.0.1", True, "must not see"),
        ("https://registry.example.com.evil.io/t", "https://registry.example.com", True, "must not see"),
        ("http://registry.example.com/token", "https://registry.example.com", True, "not https"),
        ("http://registry.example.com/token", "https://registry.example.com", False, "not https"),
        ("https://user:pw@registry.example.com/token", "https://registry.example.com", True, "plain URL"),
        ("file:///etc/passwd", "https://registry.example.com", False, "plain URL"),
        ("/token", "https://registry.example.com", False, "plain URL"),
        ("", "https://registry.example.com", False, "plain URL"),
        ("https://[", "https://registry.example.com", False, "plain URL"),
        ("https://a b/", "https://registry.example.com", False, "plain URL"),
        ("https://a:b/", "https://registry.example.com", False, "not a URL"),
    ],
)
def test_token_services_that_may_be_asked(realm: str, registry: str, credentials: bool, refused: str) -> None:  # noqa: FBT001 - a table
    if not refused:
        assert str(check_realm(realm, httpx.URL(registry), HERE, credentials=credentials)) == realm
        return
    with pytest.raises(UpstreamProtocolError, match=refused) as caught:
        check_realm(realm, httpx.URL(registry), HERE, credentials=credentials)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("realm", "allowed", "refused"),
    [
        ("https://auth.other.io/token", "https://auth.other.io", ""),
        ("https://auth.other.io:443/token", "https://auth.other.io", ""),
        ("https://auth.other.io:444/token", "https://auth.other.io", "must not see"),
        ("https://auth.other.io.evil/token", "https://auth.other.io", "must not see"),
        ("https://auth.other.io@evil/token", "https://auth.other.io", "plain URL"),
        ("https://auth.other.io/token", "http://auth.other.io", "must not see"),
        ("http://auth.other.io/token", "http://auth.other.io", "not https"),
    ],
)
def test_a_token_service_that_the_profile_names_is_that_one_alone(
    realm: str, allowed: str, refused: str
) -> None:
    registry = httpx.URL("https://registry.example.com")
    if not refused:
        assert check_realm(realm, registry, HERE, credentials=True, allowed=[allowed]) == httpx.URL(realm)
        return
    with pytest.raises(UpstreamProtocolError, match=refused):
        check_realm(realm, registry, HERE, credentials=True, allowed=[allowed])


@pytest.mark.parametrize(("one", "other"), [("a.", "b."), ("com", "com."), ("..", ".."), ("a.com", "com")])
def test_odd_names_are_never_related(one: str, other: str) -> None:
    assert not related(one, other) or one == other


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", Nearness.PUBLIC),
        ("2606:2800:220:1::1", Nearness.PUBLIC),
        ("registry.example", Nearness.PUBLIC),
        ("10.1.2.3", Nearness.PRIVATE),
        ("192.168.0.1", Nearness.PRIVATE),
        ("100.64.0.1", Nearness.PRIVATE),
        ("fd00::1", Nearness.PRIVATE),
        ("127.0.0.1", Nearness.LOOPBACK),
        ("::1", Nearness.LOOPBACK),
        ("[::1]", Nearness.LOOPBACK),
        ("::ffff:7f00:1", Nearness.LOOPBACK),
        ("2002:7f00:1::", Nearness.LOOPBACK),
        ("64:ff9b::7f00:1", Nearness.LOOPBACK),
        ("64:ff9b::a9fe:a9fe", Nearness.FORBIDDEN),
        ("169.254.169.254", Nearness.FORBIDDEN),
        ("fe80::1%eth0", Nearness.FORBIDDEN),
        ("0.0.0.0", Nearness.FORBIDDEN),  # noqa: S104 - nobody binds to it
        ("::", Nearness.FORBIDDEN),
        ("224.0.0.1", Nearness.FORBIDDEN),
    ],
)
def test_how_near_an_address_is(address: str, expected: Nearness) -> None:
    assert nearness(address) is expected


@pytest.mark.parametrize("home", list(Nearness))
@pytest.mark.parametrize("target", ["93.184.216.34", "10.0.0.1", "127.0.0.1", "169.254.169.254"])
def test_nobody_sends_us_nearer_than_they_are(home: Nearness, target: str) -> None:
    allowed = nearness(target) <= home and nearness(target) is not Nearness.FORBIDDEN
    if allowed:
        check_address(target, home, "elsewhere", HERE)
    else:
        with pytest.raises(UpstreamProtocolError, match="refused"):
            check_address(target, home, "elsewhere", HERE)


def test_a_name_is_judged_by_the_address_that_it_leads_to(upstream: Misbehaving, other: Misbehaving) -> None:
    """`localhost` says nothing by itself; the connection shows where it went, before anything is sent."""
    upstream.on(PATH, redirects(f"http://localhost:{upstream.port}/elsewhere"))
    with client(upstream) as registry:
        registry._wire._homes["127.0.0.1"] = Nearness.PUBLIC  # as if the registry were on the internet
        with pytest.raises(UpstreamProtocolError, match=r"localhost, a loopback address"):
            registry.manifest(NAME, "1.25")
    assert upstream.requests(path="/elsewhere") == []


def test_a_host_that_fails_is_named_when_it_is_not_the_registry(upstream: Misbehaving) -> None:
    upstream.on(PATH, redirects("http://storage.invalid/x"))
    with (
        client(upstream) as registry,
        pytest.raises(UpstreamUnavailable, match=r"at storage\.invalid, where it"),
    ):
        registry.manifest(NAME, "1.25")


def test_a_redirect_loop_ends(upstream: Misbehaving) -> None:
    upstream.on(PATH, redirects(PATH))
    with (
        client(upstream) as registry,
        pytest.raises(UpstreamProtocolError, match="redirects more than 5 times"),
    ):
        registry.manifest(NAME, "1.25")
    assert len(upstream.seen) == 6
