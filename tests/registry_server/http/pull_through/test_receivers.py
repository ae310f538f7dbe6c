"""Several receivers of misses: which one a repository belongs to, and who stands in for one that fails."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.http.pull_through.receivers import (
    ReceiverClient,
    ReceiverPool,
    RegisteredReceivers,
    in_order,
)
from registry_server.http.pull_through.webhook_client import OnMissOptions
from registry_server.http.server_process import running_server
from registry_server.store.errors import StoreMissing
from registry_server.store.mirror_state.receivers import LOST_AFTER
from registry_server.store.store import Store
from tests.registry_server.http.fetching import fetching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

URLS = [f"http://fill-{number}.example:8090/" for number in range(1, 5)]
NAMES = [f"library/app-{number}" for number in range(4000)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_server_asks_the_same_receiver_for_a_repository() -> None:
    """Whatever the order in which it found them."""
    for name in NAMES[:50]:
        assert in_order(URLS, name) == in_order(reversed(URLS), name)


def test_receivers_have_about_the_same_number_of_repositories() -> None:
    owners = Counter(in_order(URLS, name)[0] for name in NAMES)
    assert set(owners) == set(URLS)
    assert max(owners.values()) < 1.15 * len(NAMES) / len(URLS)


def test_a_receiver_that_goes_moves_its_own_repositories_and_no_others() -> None:
    gone, *left = URLS
    for name in NAMES[:500]:
        before = in_order(URLS, name)
        assert in_order(left, name) == [url for url in before if url != gone]


def test_those_of_a_receiver_that_is_gone_are_divided_among_all_others() -> None:
    gone, *left = URLS
    heirs = Counter(in_order(left, name)[0] for name in NAMES if in_order(URLS, name)[0] == gone)
    assert set(heirs) == set(left)
    assert max(heirs.values()) < 0.45 * sum(heirs.values())


def _owned_by(url: str, urls: list[str]) -> str:
    return next(name for name in NAMES if in_order(urls, name)[0] == url)


def test_a_receiver_that_failed_is_asked_last_and_then_by_one_call_first() -> None:
    clock = Clock()
    pool = ReceiverPool(lambda: URLS, clock=clock)
    name = _owned_by(URLS[2], URLS)
    normal = in_order(URLS, name)
    last = [*normal[1:], normal[0]]
    pool.failed(URLS[2])
    assert pool.order(name) == last
    clock.now += 1.1
    assert pool.order(name) == normal  # this call tries it
    assert pool.order(name) == last  # the next one does not wait for what comes of that
    clock.now += 1.1
    assert pool.order(name) == last  # the pause is longer now
    pool.answered(URLS[2])
    assert pool.order(name) == normal


def test_the_pauses_of_a_receiver_that_keeps_failing_end_at_half_a_minute() -> None:
    clock = Clock()
    pool = ReceiverPool(lambda: URLS[:2], clock=clock)
    for _ in range(20):
        pool.failed(URLS[0])
    clock.now += 30.1
    assert pool.order(_owned_by(URLS[0], URLS[:2]))[0] == URLS[0]


def test_when_all_have_failed_all_are_asked() -> None:
    pool = ReceiverPool(lambda: URLS, clock=Clock())
    for url in URLS:
        pool.failed(url)
    assert sorted(pool.order("a")) == sorted(URLS)


def test_a_receiver_is_gone_when_its_record_has_not_changed_for_a_while() -> None:
    """By the reader's clock alone: that of the receiver's host may be another one."""
    clock, beats = Clock(), {"http://a/": "1", "http://b/": "1"}
    registered = RegisteredReceivers(lambda: beats, clock=clock)
    assert set(registered()) == {"http://a/", "http://b/"}
    for beat in range(2, 8):
        clock.now += LOST_AFTER / 4
        beats = {**beats, "http://a/": str(beat)}
        found = registered()
    assert found == ("http://a/",)
    beats = {**beats, "http://b/": "2"}
    clock.now += 1
    assert set(registered()) == {"http://a/", "http://b/"}
    beats = {}
    clock.now += 1
    assert registered() == ()


def test_while_the_store_cannot_be_read_the_receivers_that_were_known_are_asked() -> None:
    clock, fails = Clock(), [False]

    def beats() -> Mapping[str, str]:
        if fails[0]:
            raise StoreMissing("unmounted")
        return {"http://a/": "1"}

    registered = RegisteredReceivers(beats, clock=clock)
    registered()
    fails[0] = True
    clock.now += 2
    assert registered() == ("http://a/",)


def test_records_are_kept_by_url_and_what_is_no_record_is_left_out(tmp_path: Path) -> None:
    records = Store.open(tmp_path / "store").receivers
    assert records.beats() == {}
    records.renew("http://fill-1.example:8090/")
    records.renew("https://fill-2.example/misses")
    first = records.beats()
    records.renew("http://fill-1.example:8090/")
    again = records.beats()
    assert set(first) == set(again) == {"http://fill-1.example:8090/", "https://fill-2.example/misses"}
    assert {url for url in first if first[url] != again[url]} == {"http://fill-1.example:8090/"}
    folder = tmp_path / "store/receivers"
    (planted,) = list(folder.iterdir())[:1]
    (folder / f"{'0' * 32}.json").write_bytes(planted.read_bytes())  # under a name that is not its own
    (folder / f"{'1' * 32}.json").write_text('{"url": "file:///etc/passwd", "beat": "1"}')
    (folder / "half").write_text("{")
    assert records.beats() == again
    records.remove("http://fill-1.example:8090/")
    records.remove("http://never.example/")
    assert set(records.beats()) == {"https://fill-2.example/misses"}


# Receivers that fail, in front of one that answers: whatever is wrong with them, the client gets its image.


@contextmanager
def _closed() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}/"


@contextmanager
def _full() -> Iterator[str]:
    """Takes no connection, as a host that is down: the queue of its socket is full."""
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/"


@contextmanager
def _says(answer: bytes) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            with taken:
                taken.settimeout(10)
                taken.recv(65536)
                taken.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


FAILING: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "nobody listens there": _closed,
    "its host is down": _full,
    "it dies in the middle of a call": lambda: _says(b""),
    "it dies in the middle of its answer": lambda: _says(b"HTTP/1.1 200 OK\r\n\r\n{"),
    "it fails": lambda: _says(b"HTTP/1.1 500 Internal\r\n\r\n{}"),
    "it has another secret": lambda: _says(b"HTTP/1.1 401 Unauthorized\r\n\r\n{}"),
    "it speaks another protocol": lambda: _says(b"220 mail.example ESMTP\r\n"),
}


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING.keys())
def test_another_receiver_stands_in_for_one_that_fails(
    tmp_path: Path, failing: Callable[[], AbstractContextManager[str]]
) -> None:
    store = Store.open(tmp_path / "store", durability="none")
    with fetching(store, tmp_path) as working, failing() as broken:
        (url,) = json.loads(working.options.read_text())["urls"]
        name = _owned_by(broken, [broken, url])
        working.upstream = {name: {"1": b"layer"}}
        options = tmp_path / "both.json"
        options.write_text(OnMissOptions((broken, url), b"only for this test", 20.0).to_json())
        with running_server(store.root, on_miss=options) as server:
            for _ in range(3):
                assert httpx.get(f"{server}/v2/{name}/manifests/1", timeout=30).status_code == 200
        assert working.asked == [f"{name} 1"] * 3


def test_a_call_does_not_wait_for_a_receiver_whose_host_has_lost_its_power(tmp_path: Path) -> None:
    """It took the question and says nothing any more, and its record is not renewed."""
    store = Store.open(tmp_path / "store", durability="none")
    with fetching(store, tmp_path) as working, socket.create_server(("127.0.0.1", 0)) as silent:
        (url,) = json.loads(working.options.read_text())["urls"]
        lost = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        name = _owned_by(lost, [lost, url])
        looks = iter([[lost, url], [lost, url]])
        options = OnMissOptions((), b"only for this test", 60.0)
        client = ReceiverClient(options, ReceiverPool(lambda: next(looks, [url])))
        question = {"kind": "manifest", "repository": name, "reference": "1"}
        answer = asyncio.run(client.call(question, 60.0))
    assert answer["outcome"] == "refused"
    assert working.asked == [f"{name} 1"]


def test_with_no_receiver_at_all_a_client_is_told_so(tmp_path: Path) -> None:
    options = tmp_path / "on-miss.json"
    options.write_text(OnMissOptions((), b"only for this test", 20.0).to_json())
    with running_server(tmp_path / "store", on_miss=options) as server:
        answer = httpx.get(f"{server}/v2/library/nginx/manifests/1")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "mirrorflow receive" in answer.json()["errors"][0]["detail"]["cause"]


def test_a_receiver_that_registers_while_the_server_runs_is_asked(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", durability="none")
    options = tmp_path / "registered.json"
    options.write_text(OnMissOptions((), b"only for this test", 20.0).to_json())
    with fetching(store, tmp_path) as working, running_server(store.root, on_miss=options) as server:
        (url,) = json.loads(working.options.read_text())["urls"]
        working.upstream = {"library/nginx": {"1": b"layer"}}
        path = f"{server}/v2/library/nginx/manifests/1"
        assert httpx.get(path).status_code == 503
        store.receivers.renew(url)
        while (answer := httpx.get(path, timeout=30)).status_code == 503:
            pass
        assert answer.status_code == 200
