"""Object storage that throttles, loses answers, refuses, and is not there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from registry_server.store.errors import (
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnreachable,
    StoreUnwritable,
)
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.objects import Conflict
from registry_server.store.objects.storage_driver import RetryLimits
from tests.registry_server.store.objects.conftest import LIMITS
from tests.support import s3_trouble as trouble
from tests.support.object_storage import ENVIRONMENT, SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.store.objects.storage_driver import StorageDriver
    from tests.support.s3_trouble import TroubledS3


def content_of(remote: ObjectStorage, key: str) -> bytes | None:
    found = remote.get(key)
    return found.content if found else None


PASSING = [trouble.SLOW_DOWN, trouble.TOO_MANY, trouble.BROKEN, trouble.UNHEARD, trouble.UNANSWERED]


@pytest.mark.parametrize("what", [*PASSING, trouble.SILENT])
def test_a_request_that_changes_nothing_is_repeated(
    remote: ObjectStorage, network: TroubledS3, what: str
) -> None:
    remote.put("a", b"content")
    network.do(what, what, method="GET")
    assert content_of(remote, "a") == b"content"
    assert network.seen.count("GET") == 3


@pytest.mark.parametrize("what", [*PASSING, trouble.SILENT])
def test_a_put_is_repeated(remote: ObjectStorage, network: TroubledS3, what: str) -> None:
    network.do(what, what)
    remote.put("a", b"content")
    assert network.seen.count("PUT") == 3
    assert content_of(remote, "a") == b"content"


@pytest.mark.parametrize("what", [*PASSING, trouble.SILENT, trouble.BUSY])
def test_a_new_object_is_put_through_trouble(remote: ObjectStorage, network: TroubledS3, what: str) -> None:
    network.do(what)
    remote.put("a", b"content", new=True)
    assert content_of(remote, "a") == b"content"
    with pytest.raises(Conflict):
        remote.put("a", b"other", new=True)


@pytest.mark.parametrize("what", [*PASSING, trouble.SILENT, trouble.BUSY])
def test_an_object_is_replaced_through_trouble(remote: ObjectStorage, network: TroubledS3, what: str) -> None:
    remote.put("a", b"1")
    found = remote.get("a")
    assert found is not None
    network.do(what)
    remote.put("a", b"2", instead_of=found.version)
    assert content_of(remote, "a") == b"2"


@pytest.mark.parametrize("what", [*PASSING, trouble.BUSY])
def test_who_was_too_late_is_told_so_through_trouble(
    remote: ObjectStorage, network: TroubledS3, what: str
) -> None:
    remote.put("a", b"of another writer")
    network.do(what)
    with pytest.raises(Conflict):
        remote.put("a", b"ours", new=True)
    assert content_of(remote, "a") == b"of another writer"


def test_a_conditional_put_ends_with_its_limits(remote: ObjectStorage, network: TroubledS3) -> None:
    network.plan = lambda method, _: trouble.SLOW_DOWN if method == "PUT" else ""
    with pytest.raises(StoreUnreachable, match="SlowDown 503"):
        remote.put("a", b"content", new=True)
    assert network.seen.count("PUT") == LIMITS.times + 1


REQUESTS: dict[str, Callable[[ObjectStorage], object]] = {
    "get": lambda remote: remote.get("a"),
    "parsed": lambda remote: remote.parsed("a", bytes.decode),
    "look": lambda remote: remote.look("a"),
    "pieces": lambda remote: [*remote.pieces("a")],
    "names": lambda remote: remote.names("f"),
    "walk": lambda remote: [*remote.walk("f")],
    "put": lambda remote: remote.put("a", b"x"),
    "new": lambda remote: remote.put("a", b"x", new=True),
    "mark": lambda remote: remote.mark("a", "b"),
    "renew": lambda remote: remote.renew("a", "b"),
    "remove": lambda remote: remote.remove("a"),
    "remove several": lambda remote: remote.remove("a", "b"),
    "check": lambda remote: remote.check(),
}


@pytest.mark.parametrize("ask", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        pytest.param(trouble.SLOW_DOWN, (StoreUnreachable, "503"), id="throttled for long"),
        pytest.param(trouble.UNHEARD, (StoreUnreachable, "the connection broke off"), id="cut off"),
        pytest.param(
            trouble.REDIRECT, (StoreError, r"set storage\.storageDriver\.region"), id="another region"
        ),
        pytest.param(trouble.NO_SPACE, (StoreFull, "raise its quota"), id="no space"),
    ],
)
def test_each_request_says_what_is_wrong(
    driver: StorageDriver,
    network: TroubledS3,
    *,
    ask: Callable[[ObjectStorage], object],
    what: str,
    expected: tuple[type[StoreError], str],
) -> None:
    remote = ObjectStorage(replace(driver, limits=replace(LIMITS, times=1)))
    network.plan = lambda _method, _number: what
    with pytest.raises(expected[0], match=expected[1]) as raised:
        ask(remote)
    message = str(raised.value)
    assert message.startswith(driver.where)
    assert "\n" not in message
    assert "Signature" not in message


@pytest.mark.parametrize("request_name", [name for name in REQUESTS if name != "look"])
def test_a_missing_bucket_is_not_an_empty_one(driver: StorageDriver, request_name: str) -> None:
    """`look` is the exception: the answer to HEAD has no body that could tell."""
    remote = ObjectStorage(replace(driver, bucket="nothing"))
    with pytest.raises(StoreMissing, match=r"there is no bucket 'nothing'; make it"):
        REQUESTS[request_name](remote)


@pytest.mark.parametrize("request_name", [name for name in REQUESTS if name != "look"])
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, id="wrong secret"),
        pytest.param({"AWS_ACCESS_KEY_ID": "nobody"}, id="unknown user"),
    ],
)
def test_wrong_credentials_are_not_an_empty_bucket(
    driver: StorageDriver, monkeypatch: pytest.MonkeyPatch, request_name: str, changed: dict[str, str]
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    remote = ObjectStorage(driver)
    with pytest.raises(StoreUnwritable, match=r"access denied .* check AWS_ACCESS_KEY_ID") as raised:
        REQUESTS[request_name](remote)
    message = str(raised.value)
    assert not [each for each in (*changed.values(), SECRET_KEY, "StringToSign") if each in message]


def test_an_answer_of_another_web_server_is_not_an_absent_object(
    remote: ObjectStorage, network: TroubledS3
) -> None:
    network.plan = lambda _method, _number: trouble.HTML_404
    with pytest.raises(StoreMissing):
        remote.get("a")


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        pytest.param("http://127.0.0.1:1", "nobody listens there", id="nobody listens"),
        pytest.param("http://no.such.host.invalid", "its name cannot be resolved", id="no such name"),
    ],
)
def test_an_endpoint_that_is_not_there(driver: StorageDriver, endpoint: str, told: str) -> None:
    remote = ObjectStorage(replace(driver, regionendpoint=endpoint, limits=replace(LIMITS, times=1)))
    with pytest.raises(StoreUnreachable, match=told) as raised:
        remote.check()
    assert endpoint in str(raised.value)
    assert raised.value.retryable


def test_without_credentials_the_error_says_where_they_come_from(
    driver: StorageDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    remote = ObjectStorage(replace(driver, limits=RetryLimits(times=0, seconds=1.0, connect=0.2, read=0.2)))
    with pytest.raises(StoreUnwritable, match="AWS_SECRET_ACCESS_KEY, or the role of the machine"):
        remote.check()
