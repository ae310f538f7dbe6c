"""An upstream that is the mirror itself: refused, or left out beside others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profiles.model.own_address import is_own_address, without_own_addresses
from profiles.values.upstream_url import UpstreamUrl
from tests.profiles.support import load, problems, warnings

OTHER = "https://quay.io"


def text(*urls: str, **http: Any) -> str:
    entry = {"name": "r", "urls": list(urls), "onDemand": True}
    document = {"storage": {"rootDirectory": "s"}, "http": http, "sync": {"registries": [entry]}}
    return json.dumps(document)


@pytest.mark.parametrize(
    ("url", "http", "own"),
    [
        pytest.param("http://127.0.0.1:5000", {"port": 5000}, True, id="its address"),
        pytest.param("http://localhost:5000", {"port": 5000}, True, id="by another name"),
        pytest.param("http://[::1]:5000", {"port": 5000, "address": "0.0.0.0"}, True, id="any address"),  # noqa: S104
        pytest.param(
            "http://10.0.0.1:5000", {"port": 5000, "address": "10.0.0.1"}, True, id="of the network"
        ),
        pytest.param("http://10.0.0.2:5000", {"port": 5000, "address": "10.0.0.1"}, False, id="a neighbour"),
        pytest.param("http://127.0.0.1:5001", {"port": 5000}, False, id="another port"),
        pytest.param("http://127.0.0.1:5000", {"port": 5000, "address": "10.0.0.1"}, False, id="not there"),
        pytest.param("https://m.example", {"externalUrl": "https://m.example"}, True, id="as clients say"),
        pytest.param("https://m.example:8443", {"externalUrl": "https://m.example"}, False, id="beside that"),
        pytest.param("https://d.example:8443", {"vhosts": {"d.example": "r"}}, True, id="a host of ours"),
        pytest.param("http://127.0.0.1:5000", {"port": 0}, False, id="no port is known yet"),
    ],
)
def test_an_address_is_ours_or_not(url: str, http: dict[str, Any], *, own: bool) -> None:
    profile = load(text(OTHER, **http), "profile.json").profile
    assert is_own_address(UpstreamUrl.parse(url), profile.http) is own


def test_an_entry_that_is_nothing_but_ourselves_is_refused() -> None:
    [found] = problems(text("http://127.0.0.1:5000", "http://localhost:5000", port=5000), "profile.json")
    assert "sync.registries[0].urls: 'r' is the address at which this mirror itself listens" in found


def test_beside_others_it_is_left_out() -> None:
    given = text("http://127.0.0.1:5000", OTHER, port=5000)
    profile = load(given, "profile.json").profile
    [entry] = profile.sync.registries
    assert [str(url) for url in without_own_addresses(entry, profile.http).urls] == [OTHER]
    assert any("is this mirror itself" in each for each in warnings(given, "profile.json"))


def test_a_host_needs_an_entry() -> None:
    [found] = problems(text(OTHER, vhosts={"d.example": "hub"}), "profile.json")
    assert "http.vhosts.d.example: no registry entry is called 'hub'" in found


@pytest.mark.parametrize("host", ["a/b", "a:80", "", "a b", "-a", "ä.example"])
def test_what_is_no_host_is_refused(host: str) -> None:
    [found] = problems(text(OTHER, vhosts={host: "r"}), "profile.json")
    assert "is not a host name" in found
