"""Push notifications from upstream registries (`sync.notifications`): reading them, and their port.

CNCF distribution (its envelope of events; ACR sends single ones of the same form), Harbor (its own format and
CloudEvents), Docker Hub, zot (CloudEvents, binary and structured).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from flows.receiver.json_server import JsonPostServer
from flows.receiver.options import PUSHES
from registry_server.oci.errors import InvalidName, MirrorflowError
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import Push, TooManyPushes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from flows.receiver.json_server import Reply, Waiting

HUB: Final = "dockerhub"
_SIGNATURE: Final = "x-hub-signature-256"  # as GitHub, and what imitates it: sha256=<hex>
_MOST: Final = 500  # of one call
_LONGEST_TARGET: Final = 1000


class NotificationRefused(MirrorflowError):
    """`status` for the sender; says nothing that would help who guesses."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_notification(target: str, headers: Mapping[str, str], body: bytes, secret: bytes) -> list[Push]:
    """What a POST to `target` (path and query) with these headers (names in lower case) tells of.

    [] for what is none of our business: pulls, deletions, digests without a tag. Raises
    `NotificationRefused`.
    """
    kind, registry = _authorised(target, headers, body, secret)
    try:
        found = [*_READERS[kind](json.loads(body), headers)]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise NotificationRefused(
            400, f"the body is not what {kind} sends: {type(error).__name__}"
        ) from error
    if len(found) > _MOST:
        raise NotificationRefused(413, f"more than {_MOST} pushes in one notification")
    pushes = (_push(repository, tag, registry, on_hub=kind == HUB) for repository, tag in found)
    return [each for each in dict.fromkeys(pushes) if each is not None]


def _authorised(target: str, headers: Mapping[str, str], body: bytes, secret: bytes) -> tuple[str, str]:
    """The kind of sender, and the registry entry that it says it is."""
    parts = urlsplit(target[:_LONGEST_TARGET])
    kind, _, in_path = parts.path.removeprefix(PUSHES).partition("/")
    if not parts.path.startswith(PUSHES) or kind not in _READERS:
        raise NotificationRefused(
            404, f"not found; use one of {', '.join(PUSHES + each for each in _READERS)}"
        )
    # Docker Hub signs nothing and sends no header of ours: there the secret is the end of the path.
    shown = [unquote(in_path.strip("/"))] if kind == HUB else [*_shown(headers.get("authorization", ""))]
    known = any(_is(secret, each.encode("utf-8", "surrogateescape")) for each in shown)
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
    signed = headers.get(_SIGNATURE, "").removeprefix("sha256=").encode("utf-8", "surrogateescape")
    if not known and not hmac.compare_digest(signature, signed):
        raise NotificationRefused(401, "the request does not have the secret of sync.notifications")
    return kind, parse_qs(parts.query).get("registry", [""])[0]


def _shown(authorization: str) -> Iterator[str]:
    """The secrets that the header may be meant to show: itself, a bearer token, the password of Basic."""
    scheme, _, rest = authorization.strip().partition(" ")
    yield authorization.strip()
    if scheme.lower() == "bearer":
        yield rest.strip()
    if scheme.lower() == "basic":
        try:
            yield base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return


def _is(secret: bytes, shown: bytes) -> bool:
    return bool(shown) and hmac.compare_digest(secret, shown)


def _distribution(document: Any, _headers: Mapping[str, str]) -> Iterator[tuple[Any, Any]]:
    for event in document.get("events", [document]):
        if event.get("action") == "push":
            target = event["target"]
            yield target["repository"], target.get("tag")


def _harbor(document: Any, headers: Mapping[str, str]) -> Iterator[tuple[Any, Any]]:
    kind, data = _event(document, headers, own=(document.get("type"), document.get("event_data")))
    if kind in ("PUSH_ARTIFACT", "pushImage", "harbor.artifact.pushed"):
        for resource in data["resources"]:
            yield data["repository"]["repo_full_name"], resource.get("tag")


def _docker_hub(document: Any, _headers: Mapping[str, str]) -> Iterator[tuple[Any, Any]]:
    yield document["repository"]["repo_name"], document["push_data"]["tag"]


def _zot(document: Any, headers: Mapping[str, str]) -> Iterator[tuple[Any, Any]]:
    kind, data = _event(document, headers, own=("", document))
    if kind == "zotregistry.image.updated":
        yield data["name"], data["reference"]


def _event(document: Any, headers: Mapping[str, str], *, own: tuple[Any, Any]) -> tuple[Any, Any]:
    """Type and data of a CloudEvent (HTTP binding: binary, structured), else of the sender's `own` format."""
    if "ce-type" in headers:
        return headers["ce-type"], document
    if "specversion" in document:
        return document["type"], document["data"]
    return own


_READERS: Final[dict[str, Callable[[Any, Mapping[str, str]], Iterator[tuple[Any, Any]]]]] = {
    "distribution": _distribution,
    "harbor": _harbor,
    HUB: _docker_hub,
    "zot": _zot,
}


def _push(repository: object, tag: object, registry: str, *, on_hub: bool) -> Push | None:
    """None for what has no tag: the children of an index are pushed by digest, and come with it."""
    try:
        return Push(RepositoryName(str(repository)), Tag(str(tag or "")), registry[:100], on_hub)
    except InvalidName:
        return None


log = logging.getLogger("mirrorflow.notifications")

MAX_BODY: Final = 1024 * 1024  # bytes: zot sends the manifest along
_SECONDS: Final = 15.0  # for a whole call
_AT_ONCE: Final = 32


class PushReceiver(JsonPostServer):
    """Open to other hosts: its answers reveal nothing.

    `take` gets each push, and says how many syncs come of it.
    """

    def __init__(
        self,
        listener: socket.socket,
        secret: bytes,
        take: Callable[[Push], int],
        *,
        seconds: float = _SECONDS,
    ) -> None:
        super().__init__(listener, self._post, max_body=MAX_BODY, seconds=seconds, at_once=_AT_ONCE)
        self._secret, self._take = secret, take

    def _post(self, target: str, headers: dict[str, str], body: bytes) -> Waiting:
        """To begin a sync looks at the store, and a body may be long."""
        return lambda: self._told(target, headers, body)

    def _told(self, target: str, headers: dict[str, str], body: bytes) -> Reply:
        """Status and body: 202 with the number of syncs, which have begun."""
        try:
            pushes = read_notification(target, headers, body, self._secret)
            return 202, {"syncs": sum(self._take(push) for push in pushes)}
        except NotificationRefused as refused:
            log.warning("a notification was refused with %d: %s", refused.status, refused)
            return refused.status, {"error": str(refused)}
        except TooManyPushes as error:
            return 503, {"error": str(error)}
