"""Addresses in the section of the server."""

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
