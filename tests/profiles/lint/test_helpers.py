"""`credentialHelper`: zot's own examples load without a word, and what is probably not meant is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profiles.values.cloud_registries import ecr_region, helper_for
from tests.profiles.support import load, warnings

ECR = "https://123456789012.dkr.ecr.us-east-2.amazonaws.com"


def profile(url: str, **keys: Any) -> str:
    registry = {"urls": [url], "onDemand": True, "maxRetries": 5, "retryDelay": "2m", **keys}
    return json.dumps({"storage": {"rootDirectory": "s"}, "extensions": {"sync": {"registries": [registry]}}})


_ASSERTION = {
    "tokenURL": "https://idp.example.com/token",
    "clientId": "zot",
    "assertionFile": "/var/run/secrets/tokens/registry-token",
    "scopes": ["registry.read"],
    "username": "oauth2accesstoken",
}


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        pytest.param(ECR, {"credentialHelper": "ecr"}, id="ecr"),
        pytest.param("https://europe-docker.pkg.dev", {"credentialHelper": "gcp"}, id="gcp"),
        pytest.param("https://me.azurecr.io", {"credentialHelper": "acr"}, id="acr"),
        pytest.param(
            "https://registry.example.com",
            {"credentialHelper": "oauth2", "oauth2CredentialHelper": _ASSERTION},
            id="oauth2",
        ),
        pytest.param(ECR, {"credentialHelper": ""}, id="an empty one, as in zot's examples"),
    ],
)
def test_zots_examples_load_without_a_warning(url: str, keys: dict[str, Any]) -> None:
    assert warnings(profile(url, **keys)) == []
    [entry] = load(profile(url, **keys)).profile.sync.registries
    assert entry.credential_helper == (keys["credentialHelper"] or None)


@pytest.mark.parametrize(
    ("url", "helper", "said"),
    [
        (ECR, "gcp", "amazonaws.com is a registry that takes 'ecr'; write 'ecr'"),
        ("https://gcr.io", "acr", "gcr.io is a registry that takes 'gcp'; write 'gcp'"),
        ("http://registry.example", "ecr", "gets the token in plain text; use https"),
    ],
)
def test_a_helper_for_another_cloud_is_warned_about(url: str, helper: str, said: str) -> None:
    [warning] = warnings(profile(url, credentialHelper=helper))
    assert "credentialHelper: " in warning
    assert said in warning


@pytest.mark.parametrize(
    ("host", "helper", "region"),
    [
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "ecr", "eu-central-1"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "ecr", "us-gov-west-1"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "ecr", "cn-north-1"),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "ecr", "eu-west-1"),
        ("public.ecr.aws", "ecr", None),
        ("us-east1-docker.pkg.dev", "gcp", None),
        ("eu.gcr.io", "gcp", None),
        ("team.azurecr.cn", "acr", None),
        ("team.westeurope.data.azurecr.io", "acr", None),
        ("quay.io", None, None),
        ("gcr.io.example", None, None),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com.example", "ecr", None),
    ],
)
def test_the_name_of_a_host_tells_cloud_and_region(host: str, helper: str | None, region: str | None) -> None:
    assert (helper_for(host), ecr_region(host)) == (helper, region)
