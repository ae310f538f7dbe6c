"""zot's configuration files: each loads, or is refused for a reason that names the key.

The rows use the keys of the files in `examples/` of project-zot/zot and of `pkg/api/config/config.go`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.profiles.support import problems, warnings

if TYPE_CHECKING:
    from pathlib import Path

Section = dict[str, Any]


def config(*, storage: Section | None = None, http: Section | None = None, **more: Any) -> str:
    """The smallest file of zot's, with these keys beside."""
    whole = {
        "distSpecVersion": "1.1.1",
        "storage": {"rootDirectory": "/tmp/zot", **(storage or {})},  # noqa: S108 - as in zot's examples
        "http": {"address": "127.0.0.1", "port": "8080", **(http or {})},
        "log": {"level": "debug"},
        **more,
    }
    return json.dumps(whole)


def entry(**keys: Any) -> Section:
    registry = {"urls": ["https://registry1:5000"], "onDemand": True, **keys}
    return {"sync": {"enable": True, "registries": [registry]}}


HTPASSWD = {"htpasswd": {"path": __file__}}


def test_the_smallest_file_is_only_told_that_nothing_is_mirrored() -> None:
    assert warnings(config()) == ["1:1: sync: nothing is mirrored; add registry entries to sync.registries"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            config(storage={"fastRestart": True}),
            "storage.fastRestart: the store is not read",
            id="fastRestart",
        ),
        pytest.param(
            config(storage={"gcTimeWindow": "01:00-08:00"}), "storage.gcTimeWindow", id="gcTimeWindow"
        ),
        pytest.param(config(storage={"remoteCache": False}), "storage.remoteCache", id="boltdb"),
        pytest.param(config(storage={"cacheDriver": {"name": "redis"}}), "storage.cacheDriver", id="redis"),
        pytest.param(
            config(storage={"redirectBlobURL": True}),
            "storage.redirectBlobURL: has no effect",
            id="redirects",
        ),
        pytest.param(config(storage={"commit": True, "gcInterval": "24h"}), "", id="commit and gc"),
        pytest.param(
            config(http={"ratelimit": {"rate": 10, "methods": []}}), "http.ratelimit", id="ratelimit"
        ),
        pytest.param(
            config(http={"readTimeout": "60s", "writeTimeout": "0s"}), "http.readTimeout", id="timeouts"
        ),
        pytest.param(
            config(http={"compat": ["docker2s2"], "realm": "zot"}), "http.compat", id="docker compat"
        ),
        pytest.param(config(http={"allowOrigin": "*"}), "http.allowOrigin", id="CORS"),
        pytest.param(config(scheduler={"numWorkers": 3}), "scheduler", id="scheduler"),
        pytest.param(config(cluster={"members": [], "hashKey": "x"}), "cluster", id="cluster"),
        pytest.param(
            config(http={"auth": HTPASSWD | {"sessionDriver": {"name": "redis"}, "secureSession": True}}),
            "http.auth.sessionDriver",
            id="sessions",
        ),
        pytest.param(
            config(http={"auth": HTPASSWD, "accessControl": {"metrics": {"users": ["bob"]}}}),
            "",
            id="metrics users",
        ),
        pytest.param(
            config(http={"auth": HTPASSWD, "accessControl": {"metrics": {"anonymousPolicy": ["read"]}}}),
            "",
            id="metrics for everyone",
        ),
        *(
            pytest.param(config(extensions={name: value}), f"extensions.{name}", id=f"extension {name}")
            for name, value in {
                "search": {
                    "enable": True,
                    "cve": {"updateInterval": "2h", "trivy": {"sbom": {"enable": True}}},
                },
                "ui": {"enable": True},
                "metrics": {"enable": True, "prometheus": {"path": "/metrics"}},
                "scrub": {"enable": True, "interval": "24h"},
                "lint": {"enable": True, "mandatoryAnnotations": ["a"]},
                "trust": {"enable": True, "cosign": True, "notation": True},
                "events": {"enable": True, "sinks": [{"type": "http", "address": "http://localhost:1"}]},
                "apikey": {"enable": True},
                "mgmt": {"enable": True},
            }.items()
        ),
    ],
)
def test_what_is_not_used_is_warned_about_by_its_name(text: str, said: str) -> None:
    found = [each for each in warnings(text) if "nothing is mirrored" not in each]
    assert bool(found) is bool(said), found
    assert not said or any(said in each for each in found), found


@pytest.mark.parametrize(
    "keys",
    [
        {"syncLegacyCosignTags": False},
        {"manifestCheckInterval": "5m"},
        {"maxRetries": 3, "retryDelay": "5s", "maxRetryDelay": "1m"},
        {"syncTimeout": "3h", "responseHeaderTimeout": "30s"},
        {"reqConcurrent": 8, "reqPerSec": 2.5, "disableHTTP2": True, "maxIdleConnsPerHost": 4},
        {"preserveDigest": True},
        {"stream": True, "maxConcurrentStreams": 32},
        {"content": [{"prefix": "**", "tags": {"excludeRegex": "^.*-arm64$", "semver": True}}]},
    ],
    ids=", ".join,
)
def test_every_key_of_a_sync_entry_is_known(keys: Section) -> None:
    assert warnings(config(extensions=entry(**keys))) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(
            pytest.param(
                config(storage={"storageDriver": {"name": name, "bucket": "b", key: "x"}}),
                f"storage.storageDriver.{key}: credentials do not belong in the profile",
                id=f"{key} of {name}",
            )
            for name, key in (("s3", "secretkey"), ("gcs", "keyfile"), ("azure", "accountkey"))
        ),
        pytest.param(
            config(storage={"subPaths": {"/a": {"rootDirectory": "/t", "storageDriver": {"name": "s3"}}}}),
            "storage.subPaths./a.storageDriver: another storage driver than local files for a subpath",
            id="a bucket for a subpath",
        ),
        *(
            pytest.param(
                config(http={"auth": {name: {"x": 1}}}),
                f"http.auth.{name}: ",
                id=f"signing in by {name}",
            )
            for name in ("ldap", "openid")
        ),
        *(
            pytest.param(
                config(http={"auth": {"bearer": {name: "x"}}}),
                f"http.auth.bearer.{name}: ",
                id=f"tokens: {name}",
            )
            for name in ("cert", "awsSecretsManager", "upstreamTokenEndpoint")
        ),
        pytest.param(
            config(
                http={
                    "auth": HTPASSWD,
                    "accessControl": {
                        "repositories": {
                            "**": {
                                "policies": [
                                    {"users": ["a"], "actions": ["read"], "conditions": [{"expression": "x"}]}
                                ]
                            }
                        }
                    },
                }
            ),
            "http.accessControl.repositories.**.policies[0].conditions: a condition (CEL) of a policy",
            id="a condition of a policy",
        ),
        pytest.param(
            config(extensions=entry(credentialHelper="ecr-login")),
            "registries[0].credentialHelper: 'ecr-login' is no credential helper; write 'ecr'",
            id="a helper of docker",
        ),
    ],
)
def test_what_must_not_be_ignored_is_refused_by_its_name_alone(text: str, said: str) -> None:
    [problem] = problems(text)
    assert said in problem


def test_a_driver_without_a_folder_is_one_problem() -> None:
    driver = {"name": "s3", "bucket": "b", "rootdirectory": "/zot", "region": "us-east-2"}
    [problem] = problems(json.dumps({"storage": {"storageDriver": driver}}))
    assert "the key 'rootDirectory' is missing" in problem


def test_a_driver_of_zot_is_taken_as_it_is() -> None:
    driver = {
        "name": "s3",
        "rootdirectory": "/zot",
        "region": "us-east-2",
        "regionendpoint": "localhost:4566",
        "forcepathstyle": True,
        "bucket": "zot-storage",
        "secure": False,
        "skipverify": False,
    }
    storage = {"storageDriver": driver, "redirectBlobURL": True}
    assert warnings(config(storage=storage, extensions=entry())) == []


def test_a_credentials_file_of_zot_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"registry1:5000": {"username": "u", "password": "p"}}')
    sync = {"sync": {**entry()["sync"], "credentialsFile": "c.json"}}
    assert warnings(config(extensions=sync), folder=tmp_path) == []


_KUBERNETES = {
    "issuer": "https://kubernetes.default.svc.cluster.local",
    "audiences": ["zot", "https://zot.example.com"],
    "claimMapping": {
        "variables": [{"name": "ns", "expression": "claims['kubernetes.io/serviceaccount/namespace']"}],
        "validations": [{"expression": "vars.ns != 'default'", "message": "not from the default namespace"}],
        "username": "vars.ns + ':' + claims.sub",
        "groups": "['k8s-workloads']",
    },
}


@pytest.mark.parametrize("oidc", [[_KUBERNETES], _KUBERNETES], ids=["a list", "one, as at first"])
def test_tokens_of_a_provider_are_taken_as_zot_writes_it(oidc: object) -> None:
    bearer = {"realm": "zot", "service": "zot-service", "oidc": oidc}
    policy = {"groups": ["k8s-workloads"], "actions": ["read"]}
    control = {"repositories": {"**": {"policies": [policy]}}}
    text = config(http={"auth": {"bearer": bearer}, "accessControl": control}, extensions=entry())
    assert warnings(text) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"issuer": "http://idp.example"}, "oidc[0].issuer: keys that come without TLS may be anybody's"),
        ({"audiences": []}, "oidc[0].audiences: nothing is listed"),
        ({"claimMapping": {"username": "claims."}}, "claimMapping.username: not a CEL expression"),
        ({"skipIssuerVerification": True}, "oidc[0].skipIssuerVerification: tokens of any issuer is not"),
        (
            {"certificateAuthority": "x", "certificateAuthorityFile": "y"},
            "both give a CA; drop one of the two",
        ),
    ],
)
def test_a_provider_that_nobody_could_trust_is_refused(more: Section, said: str) -> None:
    [problem] = problems(config(http={"auth": {"bearer": {"oidc": [_KUBERNETES | more]}}}))
    assert said in problem
