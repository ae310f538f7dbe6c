"""The proxies of the environment, as Go's programs and curl read them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx
import pytest

from tasks.upstream.connection.proxies import Proxies, for_httpx
from tasks.upstream.errors import ProxyInvalid, UpstreamUnavailable
from tasks.upstream.login.credentials import NoCredentials
from tasks.upstream.options import PlainUrl, UpstreamOptions
from tasks.upstream.registry import UpstreamRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.mark.structures import ParameterSet

    from tests.support_misbehaving import Misbehaving

APP = "library/app"
P = "http://proxy.test:3128"
# The names in `source`: Go's net/http/httpproxy documents the behaviour, curl's manual page does ("curl"), or
# a project met it.
GO, CURL = "golang.org/x/net/http/httpproxy", "curl(1): NO_PROXY"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def rows() -> Iterator[ParameterSet]:
    """(NO_PROXY, URL, whether it is asked directly)."""
    table = [
        ("example.com", "https://example.com", True, "the name itself", GO),
        ("example.com", "https://a.b.example.com", True, "a subdomain", GO),
        ("example.com", "https://badexample.com", False, "a name that merely ends so", GO),
        (".example.com", "https://a.example.com", True, "a leading dot: subdomains", GO),
        (".example.com", "https://example.com", False, "a leading dot: not the name itself", GO),
        ("*.example.com", "https://a.example.com", True, "a star before the dot", GO),
        ("*.example.com", "https://example.com", False, "a star before the dot: not the name itself", GO),
        ("EXAMPLE.com", "https://example.COM", True, "any case", GO),
        ("example.com.", "https://example.com", True, "a dot at the end of the entry", CURL),
        ("example.com", "https://example.com.", True, "a dot at the end of the host", CURL),
        ("a.test, b.test", "https://b.test", True, "a space after the comma", GO),
        ("a.test b.test", "https://b.test", True, "spaces alone", CURL),
        ("a.test,,b.test,", "https://b.test", True, "empty entries", GO),
        ("*", "https://example.com", True, "everything", GO),
        ("example.com:5000", "https://example.com:5000", True, "a port", GO),
        ("example.com:5000", "https://example.com", False, "another port", GO),
        ("example.com:443", "https://example.com", True, "the port of https", GO),
        ("10.1.2.3", "https://10.1.2.3:5000", True, "an address, any port", GO),
        ("10.1.2.3:5000", "https://10.1.2.3", False, "an address with another port", GO),
        (
            "192.168.0.0/16",
            "https://192.168.24.1:8787",
            True,
            "a network",
            "podman-container-tools/skopeo#588",
        ),
        ("192.168.0.0/16", "https://192.169.0.1", False, "outside of the network", GO),
        ("192.168.24.1/16", "https://192.168.0.1", True, "a network with host bits", GO),
        ("10.0.0.0/8", "https://10.example.com", False, "a name is in no network", GO),
        ("fe80::/10", "https://[fe80::1]:5000", True, "a network of IPv6", "encode/httpx#3574"),
        ("1:2:3::/64", "https://[1:2:3::4]", True, "a network of IPv6", "psf/requests#6313"),
        ("fd00::1", "https://[fd00::1]:5000", True, "an address of IPv6", "encode/httpx#2660"),
        (
            "[fd00::1]",
            "https://[fd00::1]",
            True,
            "an address in brackets",
            "basicmachines-co/basic-memory#1541",
        ),
        ("[fd00::1]:5000", "https://[fd00::1]:5000", True, "an address in brackets and a port", GO),
        ("[fd00::1]:5000", "https://[fd00::1]", False, "an address in brackets and another port", GO),
        ("::ffff:10.1.2.3", "https://10.1.2.3", True, "IPv4 inside of IPv6", GO),
        ("", "https://localhost:5000", True, "localhost never goes through a proxy", GO),
        ("", "http://127.1.2.3:5000", True, "nor does 127.0.0.0/8", GO),
        ("", "http://[::1]:5000", True, "nor does ::1", GO),
        (":5000", "https://example.com:5000", False, "a port alone means nothing", GO),
        ("10.0.0.0/99,:,[,.,example.com", "https://example.com", True, "a broken neighbour", GO),
    ]
    for entries, url, direct, what, source in table:
        yield pytest.param(entries, url, direct, id=f"{what}: {entries} {url} ({source})")


@pytest.mark.parametrize(("entries", "url", "direct"), list(rows()))
def test_no_proxy_is_read_as_go_and_curl_do(entries: str, url: str, *, direct: bool) -> None:
    proxies = Proxies.read({"HTTPS_PROXY": P, "HTTP_PROXY": P, "NO_PROXY": entries})
    assert proxies.proxy_for(httpx.URL(url)) == (None if direct else httpx.URL(P))


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        pytest.param({}, "https://a.test", None, id="none"),
        pytest.param({"https_proxy": P}, "https://a.test", P, id="lower case"),
        pytest.param({"https_proxy": P}, "http://a.test", None, id="another scheme"),
        pytest.param(
            {"HTTPS_PROXY": P, "https_proxy": "http://b.test"}, "https://a.test", P, id="both: as Go"
        ),
        pytest.param({"HTTPS_PROXY": "", "https_proxy": P}, "https://a.test", P, id="empty is not set"),
        pytest.param({"all_proxy": P}, "http://a.test", P, id="for all: as curl"),
        pytest.param({"ALL_PROXY": "http://b.test", "HTTP_PROXY": P}, "http://a.test", P, id="scheme first"),
        pytest.param({"HTTP_PROXY": "proxy.test:3128"}, "http://a.test", P, id="without a scheme"),
        pytest.param({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, "http://a.test", None, id="CGI: as Go"),
        pytest.param({"http_proxy": P, "REQUEST_METHOD": "GET"}, "http://a.test", P, id="CGI, lower case"),
        pytest.param({"HTTPS_PROXY": P, "no_proxy": "a.test"}, "https://a.test", None, id="no_proxy"),
        pytest.param(
            {"HTTPS_PROXY": "socks5://p.test:1080"}, "https://a.test", "socks5://p.test:1080", id="SOCKS"
        ),
    ],
)
def test_the_variables_are_read_in_this_order(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert Proxies.read(environ).proxy_for(httpx.URL(url)) == (httpx.URL(proxy) if proxy else None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ftp://u:s3cret@proxy.test", "HTTPS_PROXY: a proxy of the kind 'ftp' is not supported; write e.g."),
        ("http://u:s3cret@proxy.test:port", "HTTPS_PROXY: not a URL; write e.g. http://proxy.example:3128"),
        ("http://", "HTTPS_PROXY: it names no host; write e.g. http://proxy.example:3128"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_error_without_its_password(value: str, message: str) -> None:
    with pytest.raises(ProxyInvalid) as raised:
        Proxies.read({"HTTPS_PROXY": value}).proxy_for(httpx.URL("https://a.test"))
    assert str(raised.value).startswith(message)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "no_proxy"),
    [
        ({}, None),
        ({"HTTP_PROXY": P}, "localhost,127.0.0.1,::1"),
        ({"https_proxy": P, "no_proxy": "a.test"}, "a.test,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "[::1],fe80::/10,10.0.0.0/8,[fd00::1]:5000"}, "::1,10.0.0.0/8,localhost,127.0.0.1"),
    ],
)
def test_prefect_reaches_its_server_beside_a_proxy(environ: dict[str, str], no_proxy: str | None) -> None:
    """httpx raises for `[::1]`, and sends requests to 127.0.0.1 through the proxy. Ours stay as they were."""
    found = for_httpx(environ)
    assert found.get("NO_PROXY") == found.get("no_proxy") == no_proxy
    assert Proxies.read(environ | found) == Proxies.read(environ)
    assert for_httpx(environ | found) == found


def head(host: str) -> str:
    options = UpstreamOptions(urls=(PlainUrl("http", host),))
    with UpstreamRegistry(options, NoCredentials()) as registry:
        return registry.head(APP, "1").digest


def test_a_request_goes_through_the_proxy_and_carries_its_login(
    upstream: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`upstream` stands for the proxy, which is asked for the whole URL (RFC 9112, section 3.2.2)."""
    image = upstream.add_image(APP, "1")
    monkeypatch.setenv("HTTP_PROXY", f"http://me:s3cret@{upstream.host}")
    assert head("registry.test") == image.manifest.digest
    [seen] = upstream.seen
    assert seen.target == f"http://registry.test/v2/{APP}/manifests/1"
    assert seen.headers["proxy-authorization"] == "Basic bWU6czNjcmV0"


@pytest.mark.parametrize("entries", ["[::1]", "::1/128", "fe80::/10,[fe80::1]:5000", "10.0.0.0/8"])
def test_what_httpx_cannot_read_in_no_proxy_does_no_harm(
    upstream: Misbehaving, monkeypatch: pytest.MonkeyPatch, entries: str
) -> None:
    """httpx itself raises for the first three (encode/httpx#3574)."""
    image = upstream.add_image(APP, "1")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.test:1")
    monkeypatch.setenv("NO_PROXY", entries)
    assert head(upstream.host) == image.manifest.digest


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}://me:s3cret@127.0.0.1:1")
    with pytest.raises(UpstreamUnavailable) as raised:
        head("registry.test")
    assert "through the proxy 127.0.0.1 that the environment names: connection refused" in str(raised.value)
    assert "s3cret" not in str(raised.value)
