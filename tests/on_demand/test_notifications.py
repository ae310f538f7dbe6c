"""What registries say of pushes: real payloads, who may send them, and what is no business of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flows.receiver.push_notifications import MAX_BODY, NotificationRefused, PushReceiver, read_notification
from tasks.on_demand.answers import TooManyPushes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.on_demand.answers import Push

SECRET = b"sixteen or more characters"
SHOWN = {"authorization": SECRET.decode()}
DIGEST = "sha256:" + "a" * 64


def event(action: str = "push", **target: Any) -> dict[str, Any]:
    """As docker-registry 2.8 sends it."""
    return {
        "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
        "timestamp": "2016-03-09T14:44:26.402973972-08:00",
        "action": action,
        "target": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": DIGEST, **target},
        "request": {"id": "6df24a34", "addr": "192.168.64.11:42961", "host": "192.168.100.227:5000"},
        "source": {"addr": "xtal.local:5000", "instanceID": "a53db899"},
    }


DISTRIBUTION = {
    "events": [
        event(repository="library/nginx", tag="1.25", url="http://r:5000/v2/library/nginx/manifests/…"),
        event(repository="library/nginx"),  # the child of an index: without a tag
        event("pull", repository="library/nginx", tag="1.24"),
        event(repository="library/redis", tag="7"),
    ]
}
ACR = event(repository="library/nginx", tag="1.25")
HARBOR_DATA = {
    "resources": [{"digest": DIGEST, "tag": "1.25", "resource_url": "harbor.example/library/nginx:1.25"}],
    "repository": {
        "date_created": 1737446600,
        "name": "nginx",
        "namespace": "library",
        "repo_full_name": "library/nginx",
        "repo_type": "public",
    },
}
HARBOR = {"type": "PUSH_ARTIFACT", "occur_at": 1737446601, "operator": "admin", "event_data": HARBOR_DATA}
HARBOR_EVENT = {
    "specversion": "1.0",
    "id": "4b2f89a6",
    "source": "/projects/1/webhook/policies/2",
    "type": "harbor.artifact.pushed",
    "datacontenttype": "application/json",
    "data": HARBOR_DATA,
}
HUB = {
    "callback_url": "https://registry.hub.docker.com/u/library/nginx/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/",
    "push_data": {"pushed_at": 1417566161, "pusher": "trustedbuilder", "tag": "1.25"},
    "repository": {"name": "nginx", "namespace": "library", "repo_name": "library/nginx", "status": "Active"},
}
ZOT = {"name": "library/nginx", "reference": "1.25", "digest": DIGEST, "manifest": "{}", "mediaType": "x"}
UPDATED = "zotregistry.image.updated"
CLOUD = {"specversion": "1.0", "id": "1", "source": "zotregistry.dev", "type": UPDATED, "data": ZOT}


def read(kind: str, document: object, **headers: str) -> list[str]:
    found = read_notification(f"/pushes/{kind}", SHOWN | headers, json.dumps(document).encode(), SECRET)
    return [f"{each.repository}:{each.tag}" for each in found]


def outcome(path: str, headers: dict[str, str], body: bytes) -> tuple[list[Push], int, str]:
    """The pushes, or the status of the refusal and what it says."""
    try:
        return read_notification(f"/pushes/{path}", headers, body, SECRET), 0, ""
    except NotificationRefused as refused:
        return [], refused.status, str(refused)


@pytest.mark.parametrize(
    ("kind", "document", "headers", "found"),
    [
        pytest.param(
            "distribution", DISTRIBUTION, {}, ["library/nginx:1.25", "library/redis:7"], id="distribution"
        ),
        pytest.param("distribution", ACR, {}, ["library/nginx:1.25"], id="a single event"),
        pytest.param("harbor", HARBOR, {}, ["library/nginx:1.25"], id="Harbor"),
        pytest.param("harbor", HARBOR_EVENT, {}, ["library/nginx:1.25"], id="Harbor, CloudEvents"),
        pytest.param("harbor", HARBOR | {"type": "PULL_ARTIFACT"}, {}, [], id="Harbor, a pull"),
        pytest.param("zot", ZOT, {"ce-type": UPDATED}, ["library/nginx:1.25"], id="zot, binary"),
        pytest.param("zot", CLOUD, {}, ["library/nginx:1.25"], id="zot, structured"),
        pytest.param("zot", ZOT, {"ce-type": "zotregistry.image.deleted"}, [], id="zot, a deletion"),
        pytest.param("zot", ZOT | {"reference": DIGEST}, {"ce-type": UPDATED}, [], id="zot, by digest"),
        pytest.param(
            "distribution",
            {"events": [event(repository="../etc", tag="1")]},
            {},
            [],
            id="no name of a repository",
        ),
    ],
)
def test_what_registries_send_is_understood(
    kind: str, document: object, headers: dict[str, str], found: list[str]
) -> None:
    assert read(kind, document, **headers) == found


def basic(password: bytes) -> str:
    return "Basic " + base64.b64encode(b"mirror:" + password).decode()


BODY = json.dumps(DISTRIBUTION).encode()
SIGNED = "sha256=" + hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param("distribution", SHOWN, 0, id="the header itself, as Harbor has it"),
        pytest.param("distribution", {"authorization": f"Bearer {SECRET.decode()}"}, 0, id="Bearer"),
        pytest.param("distribution", {"authorization": basic(SECRET)}, 0, id="Basic, as zot has it"),
        pytest.param("distribution", {"x-hub-signature-256": SIGNED}, 0, id="signed"),
        pytest.param("distribution?registry=r", SHOWN, 0, id="the name of an entry"),
        pytest.param("distribution", {}, 401, id="nothing"),
        pytest.param("distribution", {"authorization": ""}, 401, id="an empty header"),
        pytest.param("distribution", {"authorization": "Bearer "}, 401, id="an empty token"),
        pytest.param("distribution", {"authorization": basic(b"")}, 401, id="an empty password"),
        pytest.param("distribution", {"authorization": "Basic ???"}, 401, id="no base64"),
        pytest.param("distribution", {"authorization": "Bearer other"}, 401, id="another secret"),
        pytest.param("distribution", {"authorization": "\udcff"}, 401, id="not in ASCII"),
        pytest.param("distribution", {"x-hub-signature-256": SIGNED[:-1] + "x"}, 401, id="signed by others"),
        pytest.param(f"distribution/{SECRET.decode()}", {}, 401, id="in the path, where a header can be had"),
        pytest.param("gitlab", SHOWN, 404, id="nobody knows it"),
        pytest.param("", SHOWN, 404, id="nothing to know"),
    ],
)
def test_who_sends_must_know_the_secret(path: str, headers: dict[str, str], status: int) -> None:
    found, refused, said = outcome(path, headers, BODY)
    assert refused == status
    assert SECRET.decode() not in said
    assert {each.registry for each in found} <= {"r" if "registry" in path else ""}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param(f"dockerhub/{SECRET.decode().replace(' ', '%20')}", 0, id="right"),
        pytest.param("dockerhub/other", 401, id="wrong"),
        pytest.param("dockerhub/", 401, id="empty"),
        pytest.param("dockerhub", 401, id="none"),
    ],
)
def test_docker_hub_has_the_secret_in_its_path(path: str, status: int) -> None:
    found, refused, _ = outcome(path, {}, json.dumps(HUB).encode())
    assert refused == status
    told = [(each.repository, each.tag, each.on_hub) for each in found]
    assert told == ([("library/nginx", "1.25", True)] if not status else [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"events": 1}',
        b'{"events": [1]}',
        b'{"events": [{"action": "push"}]}',
        b"[" * 100_000,
    ],
    ids=["empty", "null", "list", "cut", "number", "numbers", "no-target", "deep"],
)
def test_what_is_not_understood_is_refused(body: bytes) -> None:
    for kind in ("distribution", "harbor", "zot"):
        found, refused, _ = outcome(kind, SHOWN, body)
        assert found == []
        assert refused in (0, 400)


def test_too_many_at_once_are_refused() -> None:
    events = [event(repository="library/nginx", tag=str(number)) for number in range(501)]
    with pytest.raises(NotificationRefused) as refused:
        read("distribution", {"events": events})
    assert refused.value.status == 413


class Listening:
    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.full = False
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.receiver = PushReceiver(listener, SECRET, self._take, seconds=1)
        threading.Thread(target=self.receiver.serve, daemon=True).start()

    def _take(self, push: Push) -> int:
        if self.full:
            raise TooManyPushes("full")
        self.pushes.append(push)
        return 1

    def post(self, body: bytes, headers: dict[str, str], method: str = "POST") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, "/pushes/distribution", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def listening() -> Iterator[Listening]:
    found = Listening()
    yield found
    found.receiver.close()


def test_a_notification_is_answered_at_once(listening: Listening) -> None:
    status, body = listening.post(BODY, SHOWN)
    assert (status, json.loads(body)) == (202, {"syncs": 2})
    listening.full = True
    assert listening.post(BODY, SHOWN)[0] == 503


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(BODY, {}, 401, id="unknown"),
        pytest.param(b"x" * (MAX_BODY + 1), SHOWN, 413, id="too long"),
        pytest.param(b"", SHOWN | {"Transfer-Encoding": "chunked"}, 411, id="without a length"),
        pytest.param(b"{}", SHOWN | {"Content-Length": "-1"}, 400, id="a length that is none"),
    ],
)
def test_bad_calls_are_refused(
    listening: Listening, body: bytes, headers: dict[str, str], status: int
) -> None:
    try:
        assert listening.post(body, headers)[0] == status
    except (BrokenPipeError, ConnectionResetError):  # refused before it was all sent
        assert status == 413
    assert listening.pushes == []


def test_who_sends_a_byte_now_and_then_is_hung_up_on_and_delays_nobody(listening: Listening) -> None:
    slow = [socket.create_connection(("127.0.0.1", listening.port)) for _ in range(10)]
    for each in slow:
        each.sendall(b"POST /pushes/distribution HTTP/1.1\r\nContent-Length: 10\r\n\r\n1")
    assert listening.post(BODY, SHOWN)[0] == 202
    for each in slow:
        each.settimeout(10)
        while each.recv(1000):
            pass
        each.close()
    assert listening.post(b"", {}, method="GET")[0] == 501
