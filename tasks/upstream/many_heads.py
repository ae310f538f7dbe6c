"""HEADs of many manifests by one thread over several connections.

Only what is answered plainly is done here. Everything else is handed back: whatever came first, and what was
not asked, for `UpstreamRegistry.head` to go on with, which knows logins, redirects, pauses and other urls.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition
from typing import TYPE_CHECKING, Final

import httpx

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from tasks.upstream.connection.head_connection import ConnectionLost, HeadConnection
from tasks.upstream.connection.http1 import origin_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.upstream.connection.http1_response import ResponseParser
    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.connection.wire import Begun, Host

_TICK: Final = 0.1  # seconds: how soon a stop is noticed
_READ: Final = frozenset({b"docker-content-digest", b"content-type", b"content-length"})
_LACKING: Final = 0.2  # seconds without any connection
_SHORT_TICK: Final = 0.005  # seconds: how soon a slot, or a connection, that has become free is seen
_WIDENED: Final = 3  # how often others are asked to open more connections, before fewer have to do
_RECEIVED: Final = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """What an upstream says about a manifest. `size` is -1 when it does not say."""

    digest: Digest
    media_type: str
    size: int


@dataclass(slots=True)
class HeadBatch:
    """The HEADs of one repository. `spell` makes the request for a reference, `read` what an answer says.

    `found` and `begun` are what came of them. The first answer that is not plain closes the batch: nothing
    more is sent. Nothing is known of those that are neither, because of that or of a connection that ended.
    """

    left: deque[str]
    spell: Callable[[str], bytes]
    read: Callable[[str, ResponseParser], Head | None]
    found: dict[str, Head] = field(default_factory=dict)
    begun: dict[str, Begun] = field(default_factory=dict)
    under_way: int = 0
    is_closed: bool = False

    @property
    def is_waiting(self) -> bool:
        return bool(self.left) and not self.is_closed

    @property
    def is_over(self) -> bool:
        # In this order: what is sent is under way before it stops to wait.
        return not self.is_waiting and not self.under_way


class ManyHeads:
    """Of one host. Thread-safe: of all threads that have a batch one leads and serves all batches, the others
    wait. What it works with belongs to who leads, so it has no lock."""

    def __init__(self, host: Host, url: httpx.URL, waits: Waits, *, most: int, seconds: float) -> None:
        """`most` connections at a time; `seconds` that an answer may take."""
        self._host, self._url, self._waits = host, url, waits
        self._most, self._seconds = most, seconds
        self._new: deque[HeadBatch] = deque()
        self._batches: list[HeadBatch] = []
        self._idle: list[HeadConnection] = []
        self._busy: dict[int, tuple[HeadConnection, HeadBatch, str]] = {}  # by the number of the socket
        self._poll = select.poll()
        self._changed = Condition()
        self._is_led = False
        self._lacking_since = 0.0
        self._widened = 0
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._poll.register(self._woken, select.POLLIN)

    def close(self) -> None:
        self._woken.close()
        self._waker.close()

    def has_room(self, number: int) -> bool:
        """Whether there are connections for so many; opening one is for who can wait for it."""
        there, wanted = self._host.transports.number(origin_of(self._url)), min(self._most, number)
        if not self._host.limits.is_unpaced():
            return False
        if there < wanted:
            self._widened += 1
        return there >= wanted or (self._widened > _WIDENED and 2 * there >= wanted)

    def ask(self, batch: HeadBatch) -> None:
        """Returns when it is over. Raises `Stopped`."""
        self._new.append(batch)
        with suppress(BlockingIOError):  # then it is woken already
            self._waker.send(b"!")
        try:
            while not batch.is_over:
                if self._take_lead(batch):
                    self._lead(batch)
        finally:
            batch.is_closed = True

    def _lead(self, batch: HeadBatch) -> None:
        self._lacking_since = time.monotonic()
        try:
            while not batch.is_over:
                self._turn()
        except BaseException:
            batch.is_closed = True
            self._break_off()
            raise
        finally:
            self._step_down()

    def _take_lead(self, batch: HeadBatch) -> bool:
        with self._changed:
            while self._is_led and not batch.is_over:
                self._changed.wait(_TICK)
                self._waits.check()
            if batch.is_over:
                return False
            self._is_led = True
            return True

    def _step_down(self) -> None:
        self._forget_finished()
        if not self._batches:
            while self._idle:
                self._release(self._idle.pop())
        with self._changed:
            self._is_led = False
            self._changed.notify_all()

    def _forget_finished(self) -> None:
        if any(batch.is_over for batch in self._batches):
            self._batches = [batch for batch in self._batches if not batch.is_over]
            with self._changed:
                self._changed.notify_all()

    def _turn(self) -> None:
        """Look at all connections once, and send on those that are free. One that was used is looked at again
        before the next request: what it brings then answers no question."""
        self._waits.check()
        while self._new:
            self._batches.append(self._new.popleft())
        self._open_connections()
        ready = {number for number, _ in self._poll.poll(self._patience() * 1000)}
        if self._woken.fileno() in ready:
            self._woken.recv(_RECEIVED)
        self._send(ready)
        for number in ready & self._busy.keys():
            self._receive(number)
        self._look_at_clock()
        self._forget_finished()

    def _open_connections(self) -> None:
        while self._is_waiting() and len(self._idle) + len(self._busy) < self._most:
            connection = HeadConnection.open(self._host, self._url)
            if connection is None:
                return
            self._poll.register(connection.sock, select.POLLIN)
            self._idle.append(connection)

    def _is_waiting(self) -> bool:
        return any(batch.is_waiting for batch in self._batches)

    def _patience(self) -> float:
        if not self._is_waiting():
            return _TICK
        return 0 if self._idle else _SHORT_TICK if len(self._busy) < self._most else _TICK

    def _send(self, ready: set[int]) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            if connection.sock.fileno() in ready or not connection.is_quiet():
                self._drop(connection)
            elif self._host.limits.is_sought or not self._host.limits.is_unpaced():
                self._release(connection)
            elif (batch := next((each for each in self._batches if each.is_waiting), None)) is None:
                self._idle.append(connection)
            else:
                self._begin(connection, batch)

    def _begin(self, connection: HeadConnection, batch: HeadBatch) -> None:
        batch.under_way += 1  # before it is not waiting any more: else it is over
        reference = batch.left.popleft()
        try:
            connection.send(batch.spell(reference), self._seconds)
        except ConnectionLost:
            batch.under_way -= 1
            self._drop(connection)
        else:
            self._busy[connection.sock.fileno()] = connection, batch, reference

    def _receive(self, number: int) -> None:
        connection, batch, reference = self._busy[number]
        try:
            parser = connection.receive()
        except ConnectionLost:
            self._finish(number)
            self._drop(connection)
        except httpx.TransportError as error:
            self._hand_back(number, error)
        else:
            if parser is None:
                return
            found = batch.read(reference, parser)
            if found is None:
                self._hand_back(number, parser)
                return
            batch.found[reference] = found
            self._finish(number)
            if parser.is_reusable:
                self._idle.append(connection)
            else:
                self._drop(connection)

    def _hand_back(self, number: int, outcome: ResponseParser | httpx.TransportError) -> None:
        connection, batch, reference = self._busy[number]
        self._poll.unregister(connection.sock)
        batch.begun[reference] = connection.begun(outcome)
        batch.is_closed = True
        self._finish(number)

    def _finish(self, number: int) -> None:
        """At the end: who waits for the batch may look at it from here on."""
        _, batch, _ = self._busy.pop(number)
        batch.under_way -= 1

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        if self._busy or self._idle:
            self._lacking_since = now
        elif now - self._lacking_since > _LACKING:  # whoever asks one by one queues for a slot
            for batch in self._batches:
                batch.is_closed = True
        late = [number for number, (connection, *_) in self._busy.items() if connection.deadline < now]
        for number in late:
            self._hand_back(number, httpx.ReadTimeout("no answer"))

    def _release(self, connection: HeadConnection) -> None:
        self._poll.unregister(connection.sock)
        connection.leave()

    def _drop(self, connection: HeadConnection) -> None:
        self._poll.unregister(connection.sock)
        connection.drop()

    def _break_off(self) -> None:
        """What is on its way is nobody's any more; whoever leads next begins anew."""
        for connection, batch, reference in self._busy.values():
            batch.left.appendleft(reference)
            batch.under_way -= 1
            self._drop(connection)
        self._busy.clear()
        while self._idle:
            self._drop(self._idle.pop())


def requests_of(head: bytes, reference: str) -> Callable[[str], bytes]:
    """How to spell a request for other references, from the one for `reference`."""
    line, end, rest = head.partition(b" HTTP/1.1\r\n")
    before, after = line.removesuffix(reference.encode("ascii")), end + rest
    assert before != line
    return lambda other: b"%s%s%s" % (before, other.encode("ascii"), after)


def plain_head(reference: str, response: ResponseParser) -> Head | None:
    """What the answer to a HEAD says, if nothing about it is out of the ordinary."""
    if response.status != 200:
        return None
    found: dict[bytes, bytes] = {}
    for name, value in response.headers:
        if (name := name.lower()) in _READ:
            if name in found:
                return None
            found[name] = value
    try:
        digest = Digest(found.get(b"docker-content-digest", b"").decode("ascii"))
        media_type = found.get(b"content-type", b"").decode("ascii")
    except (InvalidName, UnicodeDecodeError):
        return None
    media_type = media_types.without_parameters(media_type)
    length = found.get(b"content-length", b"")
    if media_type == "text/html" or (":" in reference and digest != reference):
        return None
    return Head(digest, media_type, int(length) if length.isdigit() else -1)
