"""One try: what is signed, what is believed, what is shown of a receiver, and what never happens."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.receiver.call_options import SecretUnusable
from flows.reporting.notify.delivery import NotDelivered, ReceiverUnusable, post, refuse_link_local, signature
from flows.reporting.notify.notifier import trial_message
from profiles.model.notify import NotifyReceiver
from tests.support_misbehaving import answers, endless, hangs, redirects, resets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

SECRET = "0123456789abcdef0123"


@pytest.fixture
def hook() -> Iterator[Misbehaving]:
    from tests.support_misbehaving import Misbehaving

    with Misbehaving() as found:
        found.on("/services/T0/B0/token", answers(200))
        yield found


def url(hook: Misbehaving) -> str:
    return f"http://{hook.host}/services/T0/B0/token"


def send(environment: dict[str, str] | None = None, **keys: Any) -> None:
    receiver = NotifyReceiver.model_validate({"name": "ops", "timeout": 2, **keys})
    content = ("application/json", b'{"a": 1}')
    post(receiver, trial_message(0.0), content, now=1_700_000_000.7, environment=environment or {})


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of its own test suite."""
    name, stamp, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    found = signature(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", name, stamp, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_is_sent_can_be_verified(hook: Misbehaving, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    send(url=url(hook), secretFile=tmp_path / "secret")
    (seen,) = hook.seen
    assert json.loads(seen.body) == {"a": 1}
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["webhook-timestamp"] == "1700000000"
    signed = f"{seen.headers['webhook-id']}.1700000000.".encode() + seen.body
    made = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert seen.headers["webhook-signature"] == f"v1,{made}"


def test_without_a_secret_nothing_is_signed(hook: Misbehaving) -> None:
    send(url=url(hook))
    assert "webhook-signature" not in hook.seen[0].headers


def test_the_url_and_the_secret_may_be_in_the_environment(hook: Misbehaving) -> None:
    send({"HOOK": f"{url(hook)}\n", "SECRET": SECRET}, urlVariable="HOOK", secretVariable="SECRET")
    assert hook.seen[0].headers["webhook-signature"].startswith("v1,")


def test_the_url_may_be_in_a_file(hook: Misbehaving, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{url(hook)}\n")
    send(urlFile=tmp_path / "url")
    assert len(hook.seen) == 1


def drips(exchange: Exchange) -> None:
    """The head of an answer, a byte at a time, without an end."""
    while exchange.alive():
        exchange.write(b"H")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        pytest.param(answers(500), "answered with status 500", id="an error"),
        pytest.param(answers(404), "answered with status 404", id="a wrong address"),
        pytest.param(redirects("/elsewhere"), "redirects", id="a redirect, which is not followed"),
        pytest.param(resets, "cannot be reached", id="a cut connection"),
        pytest.param(hangs, "did not answer within 0.5 s", id="silence"),
        pytest.param(drips, "did not answer within 0.5 s", id="a byte now and then"),
    ],
)
def test_what_is_no_success_is_said_without_the_url(
    hook: Misbehaving, behaviour: Behaviour, said: str
) -> None:
    hook.on("/services/T0/B0/token", behaviour)
    with pytest.raises(NotDelivered) as told:
        send(url=url(hook), timeout=0.5 if "did not answer" in said else 10)
    assert said in str(told.value)
    assert "token" not in str(told.value)
    assert [seen.path for seen in hook.seen] == ["/services/T0/B0/token"]


def test_a_host_that_cannot_be_a_name_keeps_nobody_else_waiting() -> None:
    """Whatever else is raised would end the thread that tells all receivers."""
    with pytest.raises(NotDelivered, match="cannot be reached"):
        send(url="http://xn--zzzzzzz99/hook")


def test_an_endless_answer_is_not_read(hook: Misbehaving) -> None:
    hook.on("/services/T0/B0/token", endless())
    send(url=url(hook))
    assert len(hook.seen) == 1


@dataclass
class Connection:
    """As httpcore shows one. A machine has no link-local address that a test could listen at."""

    address: str
    closed: bool = False

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return self.address, 80

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        pytest.param("169.254.169.254", True, id="where clouds keep credentials"),
        pytest.param("fe80::1%eth0", True, id="link-local of IPv6"),
        pytest.param("::ffff:169.254.169.254", True, id="the same in another spelling"),
        pytest.param("10.0.0.7", False, id="a private network"),
        pytest.param("192.0.2.7", False, id="somewhere else"),
    ],
)
def test_a_link_local_address_is_sent_nothing(address: str, refused: bool) -> None:  # noqa: FBT001 - a table
    connection = Connection(address)
    connected = refuse_link_local("connection.connect_tcp.complete", {"return_value": connection})
    if refused:
        with pytest.raises(httpx.ConnectError):
            asyncio.run(connected)
    else:
        asyncio.run(connected)
    assert connection.closed is refused


@pytest.mark.parametrize(
    ("keys", "environment", "said"),
    [
        pytest.param(
            {"urlVariable": "HOOK"}, {}, "the URL in the variable HOOK: this is not a URL", id="no URL"
        ),
        pytest.param(
            {"urlVariable": "HOOK"}, {"HOOK": "file:///etc/passwd"}, "not a URL of http", id="a file"
        ),
        pytest.param(
            {"urlVariable": "HOOK"},
            {"HOOK": "https://u:hidden@h/x"},
            "with a user and a password",
            id="a login",
        ),
        pytest.param(
            {"url": "http://127.0.0.1:1/x", "secretVariable": "S"},
            {"S": "short"},
            "has 5 characters",
            id="short",
        ),
    ],
)
def test_what_cannot_be_used_is_said_and_not_shown(
    keys: dict[str, str], environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ReceiverUnusable) as told:
        send(environment, **keys)
    assert said in str(told.value)
    for value in environment.values():
        assert value not in str(told.value)
    assert "hidden" not in str(told.value)


def test_a_secret_that_claims_to_be_base64_has_to_be(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_not base64 at all")
    with pytest.raises(SecretUnusable, match="not base64") as told:
        send(url="http://127.0.0.1:1/", secretFile=tmp_path / "secret")
    assert "at all" not in str(told.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretUnusable, match="secretFile of notify ops"):
        send(url="http://127.0.0.1:1/", secretFile=tmp_path / "none")
