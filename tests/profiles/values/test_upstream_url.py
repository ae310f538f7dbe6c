"""URLs of upstream registries, Docker Hub's many names, and no secrets."""

from __future__ import annotations

import pytest

from profiles.errors import Refusal
from profiles.values.upstream_url import UpstreamUrl, parse_token_service


@pytest.mark.parametrize(
    ("text", "base", "registry", "prefix"),
    [
        ("https://registry1:5000", "https://registry1:5000", "registry1:5000", ""),
        ("http://127.0.0.1:5900/", "http://127.0.0.1:5900", "127.0.0.1:5900", ""),
        ("localhost:9999", "https://localhost:9999", "localhost:9999", ""),
        ("quay.io", "https://quay.io", "quay.io", ""),
        ("HTTPS://Quay.IO:443", "https://quay.io", "quay.io", ""),
        ("http://registry:80", "http://registry", "registry", ""),
        ("https://[::1]:5000", "https://[::1]:5000", "[::1]:5000", ""),
        ("https://docker.io", "https://registry-1.docker.io", "docker.io", ""),
        ("docker.io/library", "https://registry-1.docker.io", "docker.io", "library"),
        ("https://docker.io/library/", "https://registry-1.docker.io", "docker.io", "library"),
        ("https://index.docker.io/v1/", "https://registry-1.docker.io", "docker.io", ""),
        ("https://registry-1.docker.io/v2/", "https://registry-1.docker.io", "docker.io", ""),
        ("https://ghcr.io/my-org", "https://ghcr.io", "ghcr.io", "my-org"),
        ("https://ghcr.io/v2/my-org", "https://ghcr.io", "ghcr.io", "my-org"),
        ("https://host/artifactory/api/docker/x/v2", "https://host/artifactory/api/docker/x", "host", ""),
        ("https://host/artifactory/api/docker/x/v2/", "https://host/artifactory/api/docker/x", "host", ""),
        ("https://host/api/Docker_X/v2/team/a", "https://host/api/Docker_X", "host", "team/a"),
        ("https://host/artifactory/api/docker/x", "https://host", "host", "artifactory/api/docker/x"),
        ("https://ghcr.io/v2/my-org/v2", "https://ghcr.io", "ghcr.io", "my-org/v2"),
        ("https://docker.io.example", "https://docker.io.example", "docker.io.example", ""),
        ("  https://quay.io ", "https://quay.io", "quay.io", ""),
    ],
)
def test_a_url_says_where_and_whose(text: str, base: str, registry: str, prefix: str) -> None:
    url = UpstreamUrl.parse(text)
    assert (url.base, url.registry, url.path_prefix) == (base, registry, prefix)
    assert UpstreamUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    ("url", "name", "asked"),
    [
        ("https://docker.io/library", "alpine", "library/alpine"),
        ("https://docker.io/library", "library/alpine", "library/alpine"),  # once
        ("https://docker.io", "alpine", "library/alpine"),
        ("https://docker.io", "library/alpine", "library/alpine"),
        ("https://docker.io", "grafana/grafana", "grafana/grafana"),
        ("https://docker.io/grafana", "grafana", "grafana/grafana"),
        ("https://ghcr.io/org", "app", "org/app"),
        ("https://ghcr.io/org", "org/app", "org/org/app"),  # elsewhere names may have any depth
        ("https://quay.io", "app", "app"),
    ],
)
def test_a_repository_is_asked_for_by_its_full_name(url: str, name: str, asked: str) -> None:
    assert UpstreamUrl.parse(url).repository(name) == asked


@pytest.mark.parametrize(
    "text",
    ["", "  ", "%", "ftp://x", "https://", "https://x:0", "https://x:99999", "https://x:y", "https://x?a=b",
     "https://x#y", "https://x/UPPER", "https://x/a//b", "https://x/a//b/v2", "https://x/a b/v2", "https://x/%2e/v2",
     "https://x/a/../v2/..", "https://[::1",
     "https://-x", "docker://x", "https://x y"],
)  # fmt: skip
def test_what_is_no_registry_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        UpstreamUrl.parse(text)


@pytest.mark.parametrize(
    "text", ["hub.docker.com", "https://hub.docker.com/_/alpine", "http://hub.docker.com/v2"]
)
def test_the_web_site_of_docker_hub_is_refused_with_the_registry(text: str) -> None:
    with pytest.raises(Refusal, match=r"hub.docker.com is the web site .*; write 'https://docker.io'"):
        UpstreamUrl.parse(text)


@pytest.mark.parametrize(
    "text",
    ["https://user:s3cret@registry", "user:s3cret@registry", "https://s3cret@registry", "https://u:s3cret/x@registry",
     "https://u:1/s3cret@registry", "ftp://u:s3cret@x"],
)  # fmt: skip
def test_a_password_in_a_url_is_refused_and_never_shown(text: str) -> None:
    with pytest.raises(Refusal, match="credentialsFile") as refused:
        UpstreamUrl.parse(text)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("http://localhost", True),
        ("http://127.0.0.2:5000", True),
        ("http://[::1]:5000", True),
        ("http://a.localhost:1", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example", False),
    ],
)
def test_this_machine_is_recognised(text: str, *, loopback: bool) -> None:
    assert UpstreamUrl.parse(text).is_loopback is loopback


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://auth.example", "https://auth.example"),
        ("auth.example", "https://auth.example"),
        ("HTTPS://Auth.Example:443/", "https://auth.example"),
        ("http://10.0.0.2:5001", "http://10.0.0.2:5001"),
        ("https://[::1]:5001", "https://[::1]:5001"),
    ],
)
def test_a_token_service_is_named_by_its_origin(text: str, origin: str) -> None:
    assert parse_token_service(text) == origin
