"""A Helm repository in a profile: how its URL is read, and what does not go together with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profiles.errors import Refusal
from profiles.values.upstream_url import UpstreamUrl
from tests.profiles.support import load, problems, warnings


@pytest.mark.parametrize(
    ("text", "base", "written"),
    [
        ("helm+https://charts.example", "https://charts.example", "helm+https://charts.example"),
        ("helm+https://charts.example/stable/", "https://charts.example/stable", None),
        ("helm+https://charts.example/stable/index.yaml", "https://charts.example/stable", None),
        ("helm+https://Charts.example/Team/v2/Charts", "https://charts.example/Team/v2/Charts", None),
        ("HELM+http://127.0.0.1:8080", "http://127.0.0.1:8080", "helm+http://127.0.0.1:8080"),
    ],
)
def test_its_url_is_that_of_helm_repo_add(text: str, base: str, written: str | None) -> None:
    url = UpstreamUrl.parse(text)
    assert (url.kind, url.base, url.path_prefix) == ("helm", base, "")
    assert str(url) == (written or f"helm+{base}")
    assert UpstreamUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    "text", ["helm+https://me:pw@charts.example", "helm+ftp://charts.example", "helm+https://c/a b", "helm+"]
)
def test_a_url_that_is_none_is_refused_without_a_password(text: str) -> None:
    with pytest.raises(Refusal) as found:
        UpstreamUrl.parse(text)
    assert "pw" not in str(found.value).replace("password", "")


def profile(*urls: str, more: dict[str, Any] | None = None, **keys: Any) -> str:
    registry = {"urls": list(urls), "pollInterval": "6h", "content": [{"prefix": "a"}], **keys}
    return json.dumps({"storage": {"rootDirectory": "s"}, "sync": {"registries": [registry]}, **(more or {})})


HELM = "helm+https://charts.example/stable"


def test_an_entry_of_it_is_like_any_other() -> None:
    assert warnings(profile(HELM)) == []
    [entry] = load(profile(HELM)).profile.sync.registries
    assert entry.name == "charts.example-stable"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (profile(HELM, "https://quay.io"), "urls[1]: a registry and a Helm repository in one entry"),
        (profile(HELM, credentialHelper="ecr"), "credentialHelper: is about registries of a cloud"),
        (
            profile("https://quay.io", more={"destinations": [{"name": "x", "url": HELM}]}),
            "destinations[0].url: a Helm repository over HTTP takes no pushes",
        ),
    ],
)
def test_what_contradicts_it_is_refused(text: str, said: str) -> None:
    [problem] = problems(text)
    assert said in problem


def test_only_signed_takes_none_of_its_charts() -> None:
    [warning] = warnings(profile(HELM, onlySigned=True))
    assert "onlySigned: charts of a Helm repository have no signature" in warning
