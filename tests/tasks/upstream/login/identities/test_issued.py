"""How long an issued credential is used, and what happens where it cannot be renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tasks.upstream.errors import CredentialsInvalid, CredentialsUnavailable
from tasks.upstream.login.credentials import Credential, NoCredentials
from tasks.upstream.login.identities.choice import credentials_for
from tasks.upstream.login.identities.issued import Issued, IssuedCredentials
from tests.tasks.upstream.clients import FakeTime, client
from tests.tasks.upstream.login.identities.stand_ins import NAME, basic, guard

if TYPE_CHECKING:
    from tests.support_misbehaving import Misbehaving


class Numbered:
    """Issues `token-1`, `token-2`, …, each for `life` seconds; fails while `down`."""

    def __init__(self, time: FakeTime, life: float) -> None:
        self._time, self._life = time, life
        self.number, self.down = 0, False

    def issue(self, host: str) -> Issued:
        self.number += 1
        if self.down:
            raise CredentialsUnavailable(f"{host}: the token endpoint is down")
        credential = Credential("user", f"token-{self.number}", identity="the identity")
        return Issued(credential, self._time.clock() + self._life)


def password(credentials: IssuedCredentials, host: str = "registry") -> str:
    found = credentials.find(host)
    assert found is not None
    return found.password


@pytest.mark.parametrize(
    ("life", "after", "found"),
    [
        pytest.param(43200.0, 38000.0, "token-1", id="12 hours, 10 hours in"),
        pytest.param(43200.0, 39000.0, "token-2", id="12 hours, the last hour"),
        pytest.param(300.0, 200.0, "token-1", id="5 minutes, with more than one left"),
        pytest.param(300.0, 250.0, "token-2", id="5 minutes, the last one"),
        pytest.param(30.0, 14.0, "token-1", id="30 seconds, the first half"),
        pytest.param(30.0, 16.0, "token-2", id="30 seconds, the second half"),
    ],
)
def test_a_token_is_renewed_before_it_ends(life: float, after: float, found: str) -> None:
    time = FakeTime()
    credentials = IssuedCredentials(Numbered(time, life), time.clock)
    assert password(credentials) == "token-1"
    time.sleep(after)
    assert password(credentials) == found


def test_a_token_is_used_to_its_end_while_the_endpoint_is_down() -> None:
    time = FakeTime()
    issuer = Numbered(time, 1000.0)
    credentials = IssuedCredentials(issuer, time.clock)
    assert password(credentials) == "token-1"
    issuer.down = True
    time.sleep(950)
    assert password(credentials) == "token-1"
    time.sleep(51)
    with pytest.raises(CredentialsUnavailable, match="the token endpoint is down"):
        credentials.find("registry")
    issuer.down = False
    time.sleep(11)
    assert password(credentials).startswith("token-")


def test_an_endpoint_that_is_down_is_not_asked_by_every_request() -> None:
    time = FakeTime()
    issuer = Numbered(time, 1000.0)
    issuer.down = True
    credentials = IssuedCredentials(issuer, time.clock)
    for _ in range(50):
        with pytest.raises(CredentialsUnavailable):
            credentials.find("registry")
    assert issuer.number == 1


def test_each_registry_has_a_token_of_its_own() -> None:
    time = FakeTime()
    credentials = IssuedCredentials(Numbered(time, 1000.0), time.clock)
    assert [password(credentials, host) for host in ("one", "two", "one")] == [
        "token-1",
        "token-2",
        "token-1",
    ]


def test_a_long_run_goes_on_with_the_token_that_was_renewed(upstream: Misbehaving) -> None:
    time = FakeTime()
    issuer = Numbered(time, 600.0)
    guard(upstream, "Basic realm=r", lambda value: value == basic("user", f"token-{issuer.number}"))
    with client(upstream, credentials=IssuedCredentials(issuer, time.clock), time=time) as registry:
        for _ in range(5):
            registry.head(NAME, "1.0")
            time.sleep(400)
    assert issuer.number >= 3
    used = {each.headers.get("authorization") for each in upstream.requests("HEAD")} - {None}
    assert used == {basic("user", f"token-{number}") for number in range(1, issuer.number + 1)}


class _Settings:
    oauth2_credential_helper = None

    def __init__(self, helper: str) -> None:
        self.credential_helper = helper


@pytest.mark.parametrize(
    ("helper", "package", "extra"),
    [("ecr", "botocore", "aws"), ("gcp", "google", "gcp"), ("acr", "azure", "azure")],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    helper: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    credentials = credentials_for(_Settings(helper), NoCredentials())  # type: ignore[arg-type]
    with pytest.raises(CredentialsInvalid, match=rf"install mirrorflow\[{extra}\]"):
        credentials.find("registry.example")
