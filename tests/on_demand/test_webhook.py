"""Who calls the receiver must know the secret, be on time, say it once, and be brief."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from flows.receiver.webhook import MAX_BODY, Receiver
from registry_server.http.pull_through.webhook_client import SIGNATURE, TIMESTAMP, sign
from registry_server.oci.reference import RepositoryName
from tasks.on_demand.answers import Local, Refusal, TheRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.on_demand.answers import Answer, Miss, Place, TagPage

SECRET = b"a secret"
CALL: dict[str, Any] = {
    "version": 1,
    "id": "1",
    "kind": "manifest",
    "method": "GET",
    "repository": "library/nginx",
    "reference": "1.25",
    "timeout": 10,
}


class Listening:
    def __init__(self, url: str = "") -> None:
        self.asked: list[Miss | TagPage] = []
        self.busy = False
        self.gate, self._changed = threading.Event(), threading.Condition()
        self.gate.set()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.receiver = Receiver(
            listener,
            SECRET,
            self._answer,
            resolve=self._resolve,
            refusal=self._refusal,
            url=url,
            seconds=1,
        )
        threading.Thread(target=self.receiver.serve, daemon=True).start()

    def wait_for_calls(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) == count, 20)

    def _answer(self, miss: Miss | TagPage, seconds: float) -> Answer:
        with self._changed:
            self.asked.append(miss)
            self._changed.notify_all()
        self.gate.wait()
        return Local(seconds)

    def _refusal(self, _miss: Miss | TagPage) -> Refusal | None:
        return Refusal(503, "TOOMANYREQUESTS", "later") if self.busy else None

    def _resolve(self, place: Place) -> Answer:
        return TheRepository(RepositoryName(f"{place.namespace or place.entry}/{place.repository}"))

    def post(self, body: bytes, headers: dict[str, str], method: str = "POST") -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, "/", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else {}
        finally:
            connection.close()

    def call(
        self, change: dict[str, Any] | None = None, *, secret: bytes = SECRET, age: float = 0
    ) -> tuple[int, dict[str, Any]]:
        body = json.dumps(CALL | (change or {})).encode()
        timestamp = str(time.time() - age)
        return self.post(body, {TIMESTAMP: timestamp, SIGNATURE: sign(secret, timestamp, body)})


@pytest.fixture
def receiver() -> Iterator[Listening]:
    listening = Listening()
    yield listening
    listening.receiver.close()


def test_a_signed_call_is_answered(receiver: Listening) -> None:
    status, answer = receiver.call()
    assert status == 200
    assert answer["outcome"] == "local"
    assert [str(miss) for miss in receiver.asked] == ["library/nginx:1.25"]


OURS, OTHERS = "http://fill-1.example:8091/", "http://fill-2.example:8091/"


@pytest.mark.parametrize(
    ("url", "called", "status"),
    [
        pytest.param(OURS, OURS, 200, id="a call to this one"),
        pytest.param(OURS, OTHERS, 401, id="overheard at another one, with the same secret"),
        pytest.param(OURS, None, 200, id="from a server that does not say"),
        pytest.param("", OTHERS, 200, id="the profile lists it, perhaps by the name of a proxy"),
    ],
)
def test_a_call_to_another_receiver_is_of_no_use(url: str, called: str | None, status: int) -> None:
    listening = Listening(url)
    try:
        assert listening.call({} if called is None else {"receiver": called})[0] == status
    finally:
        listening.receiver.close()


def test_where_a_repository_of_another_registry_is_can_be_asked(receiver: Listening) -> None:
    status, answer = receiver.call({"kind": "resolve", "namespace": "quay.io"})
    assert (status, answer["repository"]) == (200, "quay.io/library/nginx")
    assert receiver.call({"id": "2", "kind": "resolve"})[0] == 400


@pytest.mark.parametrize(
    ("change", "more", "status"),
    [
        pytest.param({}, {"secret": b"another"}, 401, id="another secret"),
        pytest.param({}, {"age": 120}, 401, id="too old"),
        pytest.param({}, {"age": -120}, 401, id="from the future"),
        pytest.param({"version": 2}, {}, 400, id="another version"),
        pytest.param({"kind": "catalog"}, {}, 400, id="a kind that nobody knows"),
        pytest.param({"repository": "../etc"}, {}, 400, id="no name"),
        pytest.param({"repository": None}, {}, 400, id="nothing"),
        pytest.param({"kind": "blob"}, {}, 400, id="a blob by tag"),
        pytest.param({"timeout": "soon"}, {}, 400, id="no number"),
        pytest.param({"more": "x" * MAX_BODY}, {}, 413, id="too long"),
    ],
)
def test_what_is_not_a_good_call_is_refused(
    receiver: Listening, change: dict[str, Any], more: dict[str, Any], status: int
) -> None:
    assert receiver.call(change, **more)[0] == status
    assert receiver.asked == []


def test_an_answer_that_is_known_at_once_takes_no_thread(receiver: Listening) -> None:
    receiver.busy = True
    assert receiver.call()[1]["status"] == 503
    assert receiver.call({"id": "2", "kind": "resolve", "namespace": "quay.io"})[0] == 200
    assert receiver.call({"id": "3"}, secret=b"another")[0] == 401
    assert receiver.asked == []
    assert receiver.receiver.threads.started == 0


def test_calls_that_wait_do_not_keep_a_refusal_waiting(receiver: Listening) -> None:
    """Each of them has a thread, and the one that takes calls in is another one."""
    receiver.gate.clear()
    with ThreadPoolExecutor(20) as clients:
        waiting = [clients.submit(receiver.call, {"id": f"w{number}"}) for number in range(20)]
        receiver.wait_for_calls(20)
        receiver.busy = True
        assert receiver.call({"id": "refused"})[1]["status"] == 503
        receiver.gate.set()
        assert {each.result()[1]["outcome"] for each in waiting} == {"local"}
    assert receiver.receiver.threads.started == 20


def test_threads_are_used_again(receiver: Listening) -> None:
    for number in range(20):
        assert receiver.call({"id": str(number)})[0] == 200
    assert receiver.receiver.threads.started < 20


def test_calls_that_were_taken_are_answered_after_the_end(receiver: Listening) -> None:
    receiver.gate.clear()
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(receiver.call)
        receiver.wait_for_calls(1)
        receiver.receiver.close()
        receiver.gate.set()
        assert waiting.result()[0] == 200
    with pytest.raises(ConnectionError):
        receiver.call({"id": "2"})


def test_a_call_is_good_once(receiver: Listening) -> None:
    assert receiver.call()[0] == 200
    assert receiver.call()[0] == 401
    assert receiver.call({"id": "2"})[0] == 200
    assert len(receiver.asked) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 401, id="no signature"),
        pytest.param({TIMESTAMP: "1", SIGNATURE: "sha256=ü"}, 401, id="not in ASCII"),
        pytest.param({"Transfer-Encoding": "chunked"}, 411, id="no length"),
        pytest.param({"Content-Length": "99999999999999"}, 413, id="a length without end"),
    ],
)
def test_headers_of_nobody(receiver: Listening, headers: dict[str, str], status: int) -> None:
    encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    assert receiver.post(b"", encoded)[0] == status
    assert receiver.asked == []


def test_only_post(receiver: Listening) -> None:
    assert receiver.post(b"", {}, method="GET")[0] == 501


def test_who_sends_a_byte_now_and_then_is_hung_up_on_and_delays_nobody(receiver: Listening) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port)) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        slow.settimeout(0.2)
        assert receiver.call()[0] == 200
        with pytest.raises(ConnectionError):  # after `seconds`, however often a byte comes
            _drip(slow)


def _drip(connection: socket.socket) -> None:
    for _ in range(50):
        connection.sendall(b"x")
        try:
            answer = connection.recv(1)
        except TimeoutError:
            continue
        assert answer == b"", "hung up on, without a word"
        raise ConnectionResetError
