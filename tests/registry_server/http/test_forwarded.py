"""Whose address counts behind a load balancer, and what anybody can claim in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.http.forwarded import NetworkInvalid, TrustedProxies
from registry_server.http.server_process import ServerFailed, running_server
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from pathlib import Path

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "fd00::/8"])


def _client(connection: str, *headers: str) -> str:
    scope: dict[str, Any] = {
        "client": (connection, 4711),
        "headers": [(b"host", b"a"), *((b"x-forwarded-for", each.encode("latin-1")) for each in headers)],
    }
    PROXIES.apply(scope)
    return str(scope["client"][0])


@pytest.mark.parametrize(
    ("connection", "headers", "client"),
    [
        pytest.param("10.1.1.1", ["198.51.100.4"], "198.51.100.4", id="one proxy"),
        pytest.param("10.1.1.1", ["198.51.100.4, 192.0.2.7"], "198.51.100.4", id="two, both trusted"),
        pytest.param("10.1.1.1", ["198.51.100.4", "192.0.2.7"], "198.51.100.4", id="as two headers"),
        pytest.param("198.51.100.9", ["203.0.113.1"], "198.51.100.9", id="a client that claims to be one"),
        pytest.param("10.1.1.1", ["203.0.113.1, 198.51.100.4"], "198.51.100.4", id="and one behind a proxy"),
        pytest.param("10.1.1.1", ["203.0.113.1, 10.9.9.9, 198.51.100.4"], "198.51.100.4", id="as a proxy"),
        pytest.param("10.1.1.1", ["nonsense, 198.51.100.4"], "198.51.100.4", id="the rest is not read"),
        pytest.param("10.1.1.1", ["198.51.100.4, nonsense"], "10.1.1.1", id="a proxy that writes nonsense"),
        pytest.param("10.1.1.1", ["é" * 5000], "10.1.1.1", id="long and odd"),
        pytest.param("10.1.1.1", [", ".join(["10.2.2.2"] * 500)], "10.2.2.2", id="a long chain"),
        pytest.param("10.1.1.1", [""], "10.1.1.1", id="empty"),
        pytest.param("10.1.1.1", [], "10.1.1.1", id="no header: a health check of the proxy's own"),
        pytest.param("10.1.1.1", ["198.51.100.4:5050"], "198.51.100.4", id="with a port, as Azure writes it"),
        pytest.param("fd00::1", ["[2001:db8::4]:5050"], "2001:db8::4", id="IPv6 with a port"),
        pytest.param("fd00::1", ["2001:db8::4"], "2001:db8::4", id="IPv6"),
        pytest.param("::ffff:10.1.1.1", ["198.51.100.4"], "198.51.100.4", id="IPv4 on a socket of both"),
    ],
)  # fmt: skip
def test_the_client_is_the_last_address_that_no_trusted_proxy_has(
    connection: str, headers: list[str], client: str
) -> None:
    assert _client(connection, *headers) == client


@pytest.mark.parametrize("text", ["", "10.0.0.0/99", "10.0.0.1/8", "proxy.example", "10.0.0.*"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(NetworkInvalid, match="is not an address or a network"):
        TrustedProxies([text])


def test_a_server_goes_by_the_header_of_a_trusted_proxy_only(tmp_path: Path) -> None:
    claims = {"X-Forwarded-For": "198.51.100.4"}
    with running_registry(tmp_path / "trusting", trusted_proxies=("127.0.0.1",)) as registry:
        registry.client.get("/v2/", headers=claims)
        registry.client.get("/v2/")
    assert [each["client"] for each in registry.requests.all()] == ["198.51.100.4", "127.0.0.1"]
    with running_registry(tmp_path / "not") as registry:
        registry.client.get("/v2/", headers=claims)
    assert [each["client"] for each in registry.requests.all()] == ["127.0.0.1"]


def test_a_network_that_is_none_is_an_error_before_it_listens(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed, match="'proxy' is not an address"),
        running_server(tmp_path, trusted_proxies=("proxy",)),
    ):
        pass
