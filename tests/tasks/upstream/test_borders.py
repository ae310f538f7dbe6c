"""What the client is to the rest of the house: the profile's entry goes in, errors come out."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from profiles.model.sync import RegistryEntry
from profiles.values.upstream_url import UpstreamUrl
from tasks.upstream.connection.waits import Waits
from tasks.upstream.endpoints import Call, Endpoint
from tasks.upstream.errors import (
    UpstreamContentError,
    UpstreamDenied,
    UpstreamError,
    UpstreamLimited,
    UpstreamUnavailable,
    Where,
)
from tasks.upstream.login.credentials import NoCredentials
from tasks.upstream.registry import UpstreamRegistry

if TYPE_CHECKING:
    from tests.support_misbehaving import Misbehaving

HERE = Where("registry1:5000", "library/nginx", "1.25")


def test_an_entry_of_a_profile_is_all_that_the_client_needs(upstream: Misbehaving) -> None:
    image = upstream.add_image("library/nginx", "1.25")
    entry = RegistryEntry.model_validate({"urls": [f"http://{upstream.host}"]})
    with UpstreamRegistry(entry, NoCredentials()) as registry:
        assert registry.head("library/nginx", "1.25").digest == image.manifest.digest


@pytest.mark.parametrize(
    ("url", "name", "target", "scope"),
    [
        (
            "https://docker.io",
            "nginx",
            "https://registry-1.docker.io/v2/library/nginx/tags/list",
            "repository:library/nginx:pull",
        ),
        (
            "https://docker.io/library",
            "library/nginx",
            "https://registry-1.docker.io/v2/library/nginx/tags/list",
            "repository:library/nginx:pull",
        ),
        (
            "http://registry1:5000/team",
            "app",
            "http://registry1:5000/v2/team/app/tags/list",
            "repository:team/app:pull",
        ),
    ],
)
def test_requests_go_where_the_url_says(url: str, name: str, target: str, scope: str) -> None:
    endpoint = Endpoint(UpstreamUrl.parse(url), NoCredentials(), Waits())
    asked = endpoint.asked(Call("GET tags", "tags/list", name))
    assert str(asked.request.url) == target
    assert asked.scope == scope


def test_the_catalog_has_a_scope_of_its_own() -> None:
    endpoint = Endpoint(UpstreamUrl.parse("https://docker.io/library"), NoCredentials(), Waits())
    asked = endpoint.asked(Call("GET catalog", "_catalog?n=1000"))
    assert asked.scope == "registry:catalog:*"
    assert str(asked.where) == "docker.io"


@pytest.mark.parametrize(
    "error",
    [
        UpstreamDenied(HERE, "403 Forbidden", 403),
        UpstreamUnavailable(HERE, "connection refused", at_once=True),
        UpstreamLimited(HERE, "429", 429, retry_after=7.0),
        UpstreamContentError(HERE, "expected 10 bytes, got 9"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_being_pickled(error: UpstreamError) -> None:
    """Prefect keeps the errors of tasks so."""
    error.explain(f"{error.reason}, as explained")
    found = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (Where("docker.io"), "docker.io"),
        (Where("r:5000", "a/b"), "r:5000: a/b"),
        (HERE, "registry1:5000: library/nginx:1.25"),
        (Where("r", "a", "sha256:12"), "r: a@sha256:12"),
    ],
)
def test_places_are_named_as_people_write_them(where: Where, text: str) -> None:
    assert str(where) == text


def test_a_snapshot_of_the_counts_stays_as_it_is(upstream: Misbehaving) -> None:
    upstream.add_image("library/nginx", "1.25")
    entry = RegistryEntry.model_validate({"urls": [f"http://{upstream.host}"]})
    with UpstreamRegistry(entry, NoCredentials()) as registry:
        registry.head("library/nginx", "1.25")
        before = registry.requests()
        registry.head("library/nginx", "1.25")
        assert (before["HEAD manifest"], registry.requests()["HEAD manifest"]) == (1, 2)
