"""Proxies in the section of the server."""

from __future__ import annotations

import pytest

from profiles.server_options import server_options
from tests.profiles.support import load, problems

PROFILE = "storage: {{rootDirectory: s}}\nsync: {{registries: []}}\nhttp: {{trustedProxies: {given}}}\n"


def test_trusted_proxies_reach_the_server() -> None:
    options = server_options(load(PROFILE.format(given="[10.0.0.0/8, 'fd00::1']")).profile)
    assert options.trusted_proxies == ("10.0.0.0/8", "fd00::1/128")
    assert options.arguments().count("--trusted-proxy") == 2


@pytest.mark.parametrize("given", ["[proxy.example]", "[10.0.0.1/8]"])
def test_a_proxy_is_an_address_or_a_network(given: str) -> None:
    """A name would have to be looked up, and 10.0.0.1/8 may be meant as either."""
    (found,) = problems(PROFILE.format(given=given))
    assert "is not an address or a network" in found
    assert "write e.g. '10.0.0.0/8'" in found


ACCEL = "storage: {{rootDirectory: s}}\nsync: {{registries: []}}\nhttp: {{{given}}}\n"


def test_the_location_of_nginx_reaches_the_server() -> None:
    given = "trustedProxies: [10.0.0.7], accelRedirect: /mirror-files/"
    options = server_options(load(ACCEL.format(given=given)).profile)
    assert options.accel_redirect == "/mirror-files"
    assert "--accel-redirect" in options.arguments()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(
            "accelRedirect: /files", "add the address of nginx to http.trustedProxies", id="no proxy"
        ),
        *(
            pytest.param(
                f"trustedProxies: [10.0.0.7], accelRedirect: {text!r}", "write e.g. '/mirror-files'", id=text
            )
            for text in ("files", "/", "/a/../b", "/a b", "http://nginx/files", "/files?a")
        ),
    ],
)
def test_what_is_no_location_is_refused(given: str, said: str) -> None:
    (found,) = problems(ACCEL.format(given=given))
    assert said in found
