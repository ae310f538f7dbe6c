"""Destinations: what is refused, and what repositories are called there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.profiles.support import load, problems, warnings


def text(*destinations: dict[str, Any], **entry: Any) -> str:
    registry = {"name": "Docker Hub".replace(" ", "-"), "urls": ["https://docker.io"], **entry}
    document = {
        "storage": {"rootDirectory": "s"},
        "destinations": [{"name": "ecr", "url": "https://r.example", **each} for each in destinations],
        "sync": {"registries": [{"content": [{"prefix": "**"}], **registry}]},
    }
    return json.dumps(document)


def test_an_entry_goes_to_the_store_unless_it_says_otherwise() -> None:
    profile = load(text({}), "profile.json").profile
    assert profile.sync.registries[0].to == ("store",)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        pytest.param({}, "library/nginx", id="as here"),
        pytest.param({"prefix": "/a/b/"}, "a/b/library/nginx", id="prefix"),
        pytest.param({"template": "t/{repository}"}, "t/library/nginx", id="repository"),
        pytest.param({"template": "t/{flat}"}, "t/library-nginx", id="flat"),
        pytest.param({"template": "{entry}/{base}"}, "docker-hub/nginx", id="entry and base"),
    ],
)
def test_what_a_repository_is_called_there(given: dict[str, Any], name: str) -> None:
    profile = load(text(given, to=["ecr"]), "profile.json").profile
    assert profile.destination("ecr").repository("library/nginx", "Docker-Hub") == name


@pytest.mark.parametrize(
    ("profile", "found"),
    [
        pytest.param(text({}, to=["gar"]), "no destination is called 'gar'", id="unknown name"),
        pytest.param(text({}, to=[]), "to: ", id="nowhere"),
        pytest.param(text({}, to=["ecr", "ecr"]), "a destination is named twice", id="twice"),
        pytest.param(text({}, {}), "'ecr' names an earlier destination too", id="one name for two"),
        pytest.param(text({"name": "store"}), "'store' cannot name a destination", id="the store's name"),
        pytest.param(text({"name": "a/b"}), "'a/b' cannot name a destination", id="a path"),
        pytest.param(
            text({}, to=["ecr"], onDemand=True),
            "what clients ask for is served from the store",
            id="on demand",
        ),
        pytest.param(text({"prefix": "A"}), "'A' makes no repository names", id="upper case"),
        pytest.param(text({"template": "t/{name}"}), "{name} is no field", id="unknown field"),
        pytest.param(text({"template": "t"}), "'t' gives every repository one name", id="one name for all"),
        pytest.param(
            text({"prefix": "a", "template": "{flat}"}), "prefix and template both give names", id="two names"
        ),
        pytest.param(
            text({"createRepositories": {"api": "ecr"}}), "r.example does not tell its region", id="no region"
        ),
        pytest.param(text({"url": "https://u:p@r.example"}), "the URL holds a user name", id="a password"),
    ],
)
def test_what_is_refused(profile: str, found: str) -> None:
    assert any(found in each for each in problems(profile, "profile.json"))
    assert not any("u:p" in each for each in problems(profile, "profile.json"))


@pytest.mark.parametrize(
    ("given", "region"),
    [
        ({"url": "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com"}, "eu-central-1"),
        ({"url": "https://123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"}, "cn-north-1"),
        ({"createRepositories": {"region": "us-east-1"}}, "us-east-1"),
        ({}, None),
    ],
)
def test_the_region_of_a_registry_of_amazon(given: dict[str, Any], region: str | None) -> None:
    assert load(text(given), "profile.json").profile.destination("ecr").region == region


@pytest.mark.parametrize(
    ("profile", "found"),
    [
        pytest.param(
            text({"force": True, "trustDestination": True}, to=["ecr"]),
            "destinations[0].force: tags that somebody else moves are not seen",
            id="force without looking",
        ),
        pytest.param(
            text({}, to=["ecr"], urls=["https://r.example"]),
            "to: 'ecr' is on the host that it is mirrored from",
            id="onto itself",
        ),
        pytest.param(
            text({}, to=["ecr"], platforms=["linux/amd64"]),
            "platforms: most registries refuse an index",
            id="platforms that are left out",
        ),
    ],
)
def test_what_is_worth_a_word(profile: str, found: str) -> None:
    assert any(found in each for each in warnings(profile, "profile.json"))


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(text({}, to=["ecr"]), id="used"),
        pytest.param(text({"prefix": "m"}, to=["ecr"], urls=["https://r.example"]), id="under other names"),
        pytest.param(
            text({}, to=["ecr"], platforms={"only": ["linux/amd64"], "rewrite": True}), id="a smaller index"
        ),
    ],
)
def test_what_is_not(profile: str) -> None:
    said = " ".join(warnings(profile, "profile.json"))
    assert "destinations" not in said
    assert "to:" not in said
    assert "platforms:" not in said
