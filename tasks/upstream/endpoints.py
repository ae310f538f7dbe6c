"""The urls of a registry entry: calls to one, which of them to ask, and whether to ask again."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import httpx
from cachetools import LRUCache

from tasks.upstream.connection.hosts import MAX_WAIT
from tasks.upstream.errors import (
    UpstreamLimited,
    UpstreamLoginDenied,
    UpstreamUnavailable,
    UpstreamUntrusted,
    Where,
)
from tasks.upstream.login.auth import Authenticator
from tasks.upstream.login.challenge import Challenge
from tasks.upstream.redirects import keeps_login

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence

    from tasks.upstream.answers import Reply
    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.errors import UpstreamError
    from tasks.upstream.login.credentials import Credentials
    from tasks.upstream.login.token_requests import Ask
    from tasks.upstream.options import EndpointUrl

T = TypeVar("T")
_MOST_ORIGINS = 100  # whose challenges and tokens are remembered: hosts of blobs may be many
# A single failure must not turn a poll into GETs, each of which Docker Hub counts as a pull.
_USELESS_HEADS = 3
_HEAD_AGAIN = 3600.0  # seconds after which HEAD is tried once more: a receiver runs for weeks
_NOT_IMPLEMENTED = frozenset({405, 501})  # RFC 9110, 15.5.6 and 15.6.2: of the method itself
_BULK = frozenset({"GET blob", "GET foreign blob", "PUT blob", "PATCH blob"})
_PAUSES = (0.2, 1.0)  # seconds before the second and the third try
_LIMITED_PAUSES = (1.0, 3.0)  # the same after a 429 that does not say how long
_MAX_TRIES = 10


@dataclass(frozen=True, slots=True)
class Call:
    """`kind` is what it is counted as: "HEAD manifest". `tail` follows `/v2/REPOSITORY/`; `page` is the
    whole URL of a further page, or of an upload, instead.

    `content` can be sent again after a login, `stream` cannot: then a 401 is raised when the new token is
    there. `mount_from` is a repository that has to be read too. `brief`: a blob that does not take long.
    """

    kind: str
    tail: str
    repository: str = ""
    reference: str = ""
    page: httpx.URL | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    stream: Iterator[bytes] | None = None
    mount_from: str = ""
    brief: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as one endpoint is asked. `repository` is what the endpoint calls it, `scope` that of its token.

    `bulk`: it may take long. `once`: its body cannot be sent again.
    """

    request: httpx.Request
    kind: str
    repository: str
    scope: str
    where: Where
    bulk: bool
    once: bool


class Endpoint:
    """One of the entry's `urls`, with what we know about talking to it. Thread-safe."""

    def __init__(
        self,
        url: EndpointUrl,
        credentials: Credentials,
        waits: Waits,
        token_services: Collection[str] = (),
        actions: str = "pull",
        *,
        signs_at_once: bool = False,
    ) -> None:
        """`actions`: what tokens are asked for: "pull,push" to write.

        `signs_at_once`: it is no registry, and a password is sent to it without being asked for.
        """
        self._signs_at_once = signs_at_once
        self.url = url
        self._actions = actions
        self._token_services = token_services
        self.base = httpx.URL(f"{url.scheme}://{url.host}")
        self.root = f"{str(self.base).rstrip('/')}/{url.api_path}".rstrip("/")  # `/v2/` follows
        self._credentials = credentials
        self._waits = waits
        self._authenticators: LRUCache[tuple[object, ...], Authenticator] = LRUCache(_MOST_ORIGINS)
        self._home = (self.base.scheme, self.base.netloc)
        self._useless_heads = 0  # in a row
        self._no_head_until = float("-inf")
        self._lock = Lock()

    def asked(self, call: Call) -> Asked:
        repository = self.url.repository(call.repository) if call.repository else ""
        tail = f"{repository}/{call.tail}" if repository else call.tail
        url = call.page or f"{self.root}/v2/{tail}"  # `join` would take it apart twice
        content = call.content if call.stream is None else call.stream
        method = call.kind.partition(" ")[0]
        request = httpx.Request(method, url, headers=dict(call.headers), content=content)
        bulk, once = call.kind in _BULK and not call.brief, call.stream is not None
        scope = self.scope(call, repository)
        return Asked(request, call.kind, repository, scope, self.where(call), bulk, once)

    def scope(self, call: Call, name: str) -> str:
        """Of the token that the endpoint wants for a repository, which it calls `name`."""
        if not call.repository:
            return "registry:catalog:*"
        actions = "delete" if call.kind == "DELETE manifest" else self._actions
        scope = f"repository:{name}:{actions}"
        if call.mount_from:
            scope = f"{scope} repository:{self.url.repository(call.mount_from)}:pull"
        return scope

    def where(self, call: Call) -> Where:
        return Where(self.url.registry, call.repository, call.reference)

    def login(self, asked: Asked, request: httpx.Request) -> Generator[Ask, Reply, None]:
        """`request` of a call, signed for the origin that it goes to (`Authenticator.flow`).

        Challenge, token and credentials belong to one origin. Credentials may differ by namespace
        (containers-auth.json), so there is an authenticator for each credential. Where the registry sends us
        to another origin, we are anonymous.
        """
        place = (request.url.scheme, request.url.netloc)
        with self._lock:
            ours = place == self._home or keeps_login(self.base, request.url)
            credential = self._credentials.find(self.url.registry, asked.repository) if ours else None
            found = self._authenticators.get((credential, place))
            if found is None:
                home = request.url.join(httpx.URL(self.root).path if ours else "/")
                assumed = Challenge("basic") if self._signs_at_once and credential is not None else None
                found = Authenticator(
                    home,
                    credential,
                    self._waits,
                    self._token_services,
                    elsewhere=not ours,
                    assumed=assumed,
                )
                self._authenticators[credential, place] = found
        return found.flow(request, asked.scope, asked.where)

    def asks_head(self) -> bool:
        """Whether its answers to HEAD are of use; where they were not, it is asked by GET at once."""
        return self._no_head_until <= self._waits.clock()

    def head_worked(self) -> None:
        self._useless_heads = 0

    def head_was_useless(self, status: int | None) -> None:
        """A GET answered what a HEAD did not; `status` is the HEAD's, None where it only had no digest."""
        with self._lock:
            self._useless_heads += 1
            if status in _NOT_IMPLEMENTED or self._useless_heads >= _USELESS_HEADS:
                self._no_head_until = self._waits.clock() + _HEAD_AGAIN


def is_refused_head(error: UpstreamError) -> bool:
    """Whether a GET may be answered better. It is not where we are asked to wait, or were not let in.

    Some registries, and places that they redirect to, answer GET alone.
    """
    if error.status is None or isinstance(error, (UpstreamLimited, UpstreamLoginDenied)):
        return False
    if isinstance(error, UpstreamUnavailable):
        return error.status >= 500 and error.retry_after is None
    return error.status != 401


class Endpoints:
    """The urls in the listed order; what works is stayed with for the run. Thread-safe."""

    def __init__(self, endpoints: Sequence[Endpoint], waits: Waits) -> None:
        self._endpoints = tuple(endpoints)
        self._waits = waits
        self._current = 0
        self._lock = Lock()

    @property
    def current(self) -> Endpoint:
        """The one that works, as far as is known."""
        return self._endpoints[self._current]

    def run(self, operation: Callable[[Endpoint], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Do `operation` with the first endpoint that answers.

        Tries again, a few times, where seconds may help; a try during which `progress()` grew does not
        count as failed. Raises the `UpstreamError` of the first endpoint in the last round.
        """
        failed = 0
        for _ in range(_MAX_TRIES - 1):
            before = progress()
            try:
                return self._round(operation)
            except UpstreamUnavailable as error:
                failed = 0 if progress() > before else failed + 1
                pause = _pause(error, failed)
                if pause is None:
                    raise
            self._waits.sleep(pause)
        return self._round(operation)

    def _round(self, operation: Callable[[Endpoint], T]) -> T:
        failures: list[UpstreamError] = []
        start = self._current
        for step in range(len(self._endpoints)):
            number = (start + step) % len(self._endpoints)
            try:
                result = operation(self._endpoints[number])
            except UpstreamLimited:
                raise
            except (UpstreamUnavailable, UpstreamUntrusted) as error:
                failures.append(error)
                continue
            with self._lock:
                self._current = number
            return result
        raise _blamed(failures)


def _blamed(failures: Sequence[UpstreamError]) -> UpstreamError:
    """The first url's error; what the others said stands behind it."""
    first, *others = failures
    if others:
        said = "; ".join(f"{each.registry}: {each.reason}" for each in others)
        first.explain(f"{first.reason} (the other urls failed too: {said})")
    return first


def _pause(error: UpstreamUnavailable, failed: int) -> float | None:
    """Seconds to wait before another try; None: this is for the profile's own retries."""
    if failed > len(_PAUSES):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_WAIT else None
    pauses = _LIMITED_PAUSES if isinstance(error, UpstreamLimited) else _PAUSES
    return pauses[max(failed - 1, 0)] if error.at_once else None
