"""A run that logs in as the machine it is on: vendor's library, token endpoint and registry over sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flows.doctor.checks import build_checks
from profiles.loader import parse_profile
from registry_server.store.store import Store
from tasks.upstream.login.identities.azure import AzureIssuer
from tasks.upstream.login.identities.issued import IssuedCredentials
from tests.support.push_target import push_target
from tests.support_behaviours import answers, json_answer
from tests.support_misbehaving import misbehaving
from tests.tasks.destinations.syncing import sync_to
from tests.tasks.runs import sync, visible
from tests.tasks.upstream.clients import FakeTime, client
from tests.tasks.upstream.login.identities.stand_ins import (
    NAME,
    RULE,
    amazon,
    amazon_refuses,
    azure_identity,
    azure_registry,
    azure_token,
    basic,
    bearer_challenge,
    form,
    google_key_file,
    google_token,
    guard,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.results.report import Report
    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

SECRETS = ("ecr-secret", "aws-secret", "header-secret", "acr-refresh", azure_token())


@pytest.fixture
def cloud() -> Iterator[Misbehaving]:
    """Where the token endpoints are: another host than the registry's."""
    with misbehaving("127.0.0.2") as server:
        yield server


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cloud: Misbehaving) -> None:
    """One without credentials of its own; AWS is `cloud`."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{cloud.host}")


def said(report: Report) -> str:
    """Everything that a reader of the report sees of what went wrong. No secret is in it."""
    text = repr(report)
    assert not any(secret in text for secret in SECRETS)
    return text


def store_of(folder: Path) -> list[str]:
    return visible(Store.open(folder / "store"))


def test_ecr_is_logged_in_to_with_the_token_of_its_region(
    tmp_path: Path, upstream: Misbehaving, cloud: Misbehaving
) -> None:
    guard(upstream, "Basic realm=ecr", lambda value: value == basic("AWS", "ecr-secret"))
    cloud.on("/", amazon())
    assert sync(tmp_path, upstream, RULE, credentialHelper="ecr").complete
    assert store_of(tmp_path) == [f"{NAME}:1.0"]
    [request] = cloud.requests("POST")
    assert "/eu-central-1/ecr/aws4_request" in request.headers["authorization"]


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        pytest.param(
            amazon_refuses,
            ("gives no token to the AWS key AKIDEXAMPLE (from env)", "arn:aws:sts::1:assumed-role/mirror"),
            id="Amazon gives no token",
        ),
        pytest.param(
            amazon("ecr-of-another-account"),
            ("401 Unauthorized (as the AWS key AKIDEXAMPLE (from env))",),
            id="the registry refuses the token",
        ),
    ],
)
def test_who_is_refused_is_named_without_a_secret(
    tmp_path: Path,
    upstream: Misbehaving,
    cloud: Misbehaving,
    endpoint: Behaviour,
    words: tuple[str, ...],
) -> None:
    guard(upstream, "Basic realm=ecr", lambda value: value == basic("AWS", "ecr-secret"))
    cloud.on("/", endpoint)
    text = said(sync(tmp_path, upstream, RULE, credentialHelper="ecr"))
    assert [word for word in words if word not in text] == []


def test_a_machine_that_is_nobody_says_where_it_looked(
    tmp_path: Path, upstream: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    text = said(sync(tmp_path, upstream, RULE, credentialHelper="ecr"))
    assert "credentialHelper ecr: no AWS credentials: neither in the environment, nor in ~/.aws" in text
    assert upstream.requests(path=NAME) == []  # nothing is asked for anonymously instead


@pytest.fixture
def web_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As IRSA: a token that Kubernetes projects into the pod."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    (tmp_path / "projected").write_text("kubernetes-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "projected"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/mirror")


@pytest.mark.usefixtures("web_identity")
def test_a_role_is_taken_by_a_web_identity(tmp_path: Path, upstream: Misbehaving, cloud: Misbehaving) -> None:
    """A token that Kubernetes projects becomes keys of a role, and these a token of the registry."""
    keys = (
        "<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey>"
        "<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
    )
    name = "AssumeRoleWithWebIdentity"

    def endpoint(exchange: Exchange) -> None:
        if "x-amz-target" in exchange.seen.headers:
            amazon()(exchange)
            return
        assert form(exchange)["WebIdentityToken"] == "kubernetes-token"
        body = (
            f"<{name}Response><{name}Result><Credentials>{keys}</Credentials></{name}Result></{name}Response>"
        )
        answers(200, body.encode(), Content_Type="text/xml")(exchange)

    cloud.on("/", endpoint)
    guard(upstream, "Basic realm=ecr", lambda value: value == basic("AWS", "ecr-secret"))
    assert sync(tmp_path, upstream, RULE, credentialHelper="ecr").complete
    [request] = [each for each in cloud.requests("POST") if "x-amz-target" in each.headers]
    assert "Credential=ASIAROLE/" in request.headers["authorization"]


@pytest.mark.usefixtures("web_identity")
def test_a_role_that_may_not_be_taken_is_one_clear_error(
    tmp_path: Path, upstream: Misbehaving, cloud: Misbehaving
) -> None:
    said_by_sts = "<Code>AccessDenied</Code><Message>Not authorized to assume the role</Message>"
    body = f"<ErrorResponse><Error>{said_by_sts}</Error></ErrorResponse>".encode()
    cloud.on("/", answers(403, body, Content_Type="text/xml"))
    text = said(sync(tmp_path, upstream, RULE, credentialHelper="ecr"))
    assert "gives no token to the AWS identity of this machine: An error occurred (AccessDenied)" in text
    assert "kubernetes-token" not in text


@pytest.mark.parametrize("content", ["{", "[]", '{"type": "service_account"}', '{"type": "?"}'])
def test_default_credentials_that_are_none_are_one_clear_error(
    tmp_path: Path, upstream: Misbehaving, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "adc.json").write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    assert "credentialHelper gcp: " in said(sync(tmp_path, upstream, RULE, credentialHelper="gcp"))


def google_registry(registry: Misbehaving, token: str) -> None:
    """Artifact Registry: a token of the registry for an access token as password."""
    guard(registry, bearer_challenge(registry, "/v2/token"), lambda value: value == "Bearer registry-token")

    def give(exchange: Exchange) -> None:
        right = exchange.seen.headers.get("authorization") == basic("oauth2accesstoken", token)
        (json_answer({"token": "registry-token"}) if right else answers(403))(exchange)

    registry.on("/v2/token", give)


def test_artifact_registry_takes_the_token_of_the_default_credentials(
    tmp_path: Path, upstream: Misbehaving, cloud: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adc.json").write_text(google_key_file(cloud))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    google_registry(upstream, "google-access")
    cloud.on("/token", google_token("google-access"))
    assert sync(tmp_path, upstream, RULE, credentialHelper="gcp").complete
    assert store_of(tmp_path) == [f"{NAME}:1.0"]
    assert len(cloud.requests(path="/token")) == 1  # for all requests of the run

    cloud.on("/token", google_token("google-of-nobody"))
    text = said(sync(tmp_path, upstream, RULE, credentialHelper="gcp"))
    assert f"gives no token for repository:{NAME}:pull as the Google account mirror@project.iam" in text


_METADATA = """
import sys
from tasks.upstream.login.identities.google import GoogleIssuer
found = GoogleIssuer().issue("europe-docker.pkg.dev")
print(found.credential.username, found.credential.password, found.credential.identity)
"""


def test_a_machine_of_google_asks_its_metadata_server(cloud: Misbehaving, tmp_path: Path) -> None:
    """In a process of its own: Google's library reads the variables when it is imported."""
    account = "/computeMetadata/v1/instance/service-accounts/default"
    mail = "mirror@project.iam.gserviceaccount.com"
    flavor = {"Metadata_Flavor": "Google"}
    cloud.on("/", answers(200, b"", Metadata_Flavor="Google"))
    information = {"email": mail, "aliases": ["default"], "scopes": ["cloud-platform"]}
    cloud.on(f"{account}/", json_answer(information, **flavor))
    token = {"access_token": "metadata-token", "expires_in": 3000, "token_type": "Bearer"}
    for name in ("default", mail):
        path = f"/computeMetadata/v1/instance/service-accounts/{name}/token"
        cloud.on(path, json_answer(token, **flavor))
    cloud.on("/computeMetadata/v1/universe/universe-domain", answers(404, Metadata_Flavor="Google"))
    cloud.on(
        "/computeMetadata/v1/project/project-id",
        answers(200, b"project", Content_Type="text/plain", Metadata_Flavor="Google"),
    )
    environment = {"HOME": str(tmp_path), "GCE_METADATA_HOST": cloud.host, "GCE_METADATA_IP": cloud.host}
    done = subprocess.run(
        [sys.executable, "-c", _METADATA], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == f"oauth2accesstoken metadata-token the Google account {mail}\n", done.stderr


@pytest.fixture
def managed(cloud: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> Misbehaving:
    """A machine with a managed identity."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{cloud.host}/identity")
    monkeypatch.setenv("IDENTITY_HEADER", "header-secret")
    cloud.on("/identity", azure_identity(azure_token()))
    return cloud


def test_an_azure_registry_exchanges_the_token_of_the_managed_identity(
    tmp_path: Path, upstream: Misbehaving, managed: Misbehaving
) -> None:
    azure_registry(upstream, azure_token())
    assert sync(tmp_path, upstream, RULE, credentialHelper="acr").complete
    assert store_of(tmp_path) == [f"{NAME}:1.0"]
    assert len(upstream.requests("POST", "/oauth2/exchange")) == 1
    assert len(managed.requests(path="/identity")) == 1


def test_an_azure_registry_that_does_not_know_the_identity_says_so(
    tmp_path: Path, upstream: Misbehaving, managed: Misbehaving
) -> None:
    assert managed.host
    azure_registry(upstream, azure_token("another-app"))
    text = said(sync(tmp_path, upstream, RULE, credentialHelper="acr"))
    assert "gives no token for repository:team/app:pull as the Azure identity appid mirror-app" in text


def test_an_azure_registry_that_ended_the_refresh_token_gets_it_exchanged_again(
    upstream: Misbehaving, managed: Misbehaving
) -> None:
    assert managed.host
    azure_registry(upstream, azure_token())
    [right] = upstream._routes["/oauth2/token"]
    time = FakeTime()
    with client(upstream, credentials=IssuedCredentials(AzureIssuer()), time=time) as registry:
        registry.head(NAME, "1.0")
        time.sleep(120)  # the access token is over
        upstream.on("/oauth2/token", answers(401), right)
        registry.head(NAME, "1.0")
    assert len(upstream.requests("POST", "/oauth2/exchange")) == 2


def test_a_destination_logs_in_as_the_machine_too(
    tmp_path: Path, upstream: Misbehaving, cloud: Misbehaving
) -> None:
    upstream.add_image(NAME, "1.0")
    cloud.on("/", amazon())
    with push_target(tokens=True, login=basic("AWS", "ecr-secret")) as target:
        assert sync_to(tmp_path, upstream, target, RULE, destination={"credentialHelper": "ecr"}).complete
        assert target.tag(NAME, "1.0")


def test_the_doctor_says_who_the_machine_is(
    tmp_path: Path, upstream: Misbehaving, cloud: Misbehaving
) -> None:
    guard(upstream, "Basic realm=ecr", lambda value: value == basic("AWS", "ecr-secret"))
    cloud.on("/", amazon())
    registry = {"urls": [f"http://{upstream.host}"], "content": [RULE], "credentialHelper": "ecr"}
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [registry]}}
    profile = parse_profile(json.dumps(document), tmp_path / "profile.json").profile
    *_, check = build_checks(profile, profile.sync.registries, {})
    login = {finding.check: finding for finding in check.findings()}["login"]
    assert login.found == "as the AWS key AKIDEXAMPLE (from env) (credentialHelper ecr)"
