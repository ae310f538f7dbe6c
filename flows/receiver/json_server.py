"""An HTTP server for small JSON POSTs over a socket that is given: both ports of the receiver stand on it.

One thread takes all calls in (asyncio). An answer that is known at once is sent from there. Only a call that
waits for something gets a thread of its own. A call has some seconds in all to arrive and a bounded body, and
there are only so many at a time: a connection beyond that is closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

import h11

from flows.receiver.options import BACKLOG

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    T = TypeVar("T")
    Reply = tuple[int, dict[str, Any]]  # status and document
    Waiting = Callable[[], Reply]
    Answer = Callable[[str, dict[str, str], bytes], Reply | Waiting]

log = logging.getLogger("mirrorflow.receiver")

_FAILED: Reply = (500, {"error": "the receiver failed; its log says why"})


class JsonPostServer:
    """Serves `listener` until `close`. `max_body` in bytes; a request has `seconds` to arrive."""

    def __init__(
        self, listener: socket.socket, answer: Answer, *, max_body: int, seconds: float, at_once: int
    ) -> None:
        self.answer, self.max_body, self.seconds = answer, max_body, seconds
        self.threads = DaemonThreads("receiver-call")
        self.loop = _new_loop()
        self._listener, self._room = listener, at_once
        self._at_once = at_once
        self._end, self._left, self._closed = asyncio.Event(), asyncio.Event(), threading.Event()

    def serve(self) -> None:
        """Returns after `close`, when the calls that it had taken are answered."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._serve())

    def close(self) -> None:
        """Take no more calls. It may be called again."""
        if not self._closed.is_set():
            self.loop.call_soon_threadsafe(self._end.set)
            self._closed.wait()

    def enter(self) -> bool:
        """Whether there is room for one more call; `leave` ends it."""
        self._room -= 1
        if self._room >= 0:
            return True
        self._room += 1
        return False

    def leave(self) -> None:
        self._room += 1
        self._left.set()

    async def _serve(self) -> None:
        server = await self.loop.create_server(partial(_Call, self), sock=self._listener, backlog=BACKLOG)
        await self._end.wait()
        server.close()
        self._closed.set()
        while self._room < self._at_once:
            self._left.clear()
            await self._left.wait()


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop takes connections in with half the work, where there is one for the platform."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()


class _Call(asyncio.Protocol):
    """One connection: a request, its answer, and no other after it."""

    def __init__(self, server: JsonPostServer) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._is_inside = self._is_taken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._is_inside = self._server.enter()
        self._late = self._server.loop.call_later(self._server.seconds, self._transport.abort)
        if not self._is_inside:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_taken:
            return
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as error:
            self._reply((error.error_status_hint, {"error": f"this is no HTTP request: {error}"}))

    def eof_received(self) -> bool:
        """A client that has said all may wait for the answer all the same."""
        self.data_received(b"")
        return self._is_taken

    def connection_lost(self, _error: Exception | None) -> None:
        """A client that hangs up meanwhile cancels nothing: its call holds its place until it is answered."""
        self._late.cancel()
        if not self._is_taken:
            self._leave()

    def _read(self) -> None:
        while not self._is_taken:
            match self._http.next_event():
                case h11.Request() as head:
                    self._head = head
                    self._check(head)
                case h11.Data() as part:
                    self._body += part.data
                case h11.EndOfMessage():
                    self._take()
                case _:  # h11.NEED_DATA; the end of a connection
                    return

    def _check(self, head: h11.Request) -> None:
        headers = dict(head.headers)
        length = headers.get(b"content-length", b"")
        if head.method != b"POST":
            self._reply((501, {"error": "only POST is understood"}))
        elif not length.isdigit() or b"transfer-encoding" in headers:
            self._reply((411, {"error": "a Content-Length is required"}))
        elif len(length) > 9 or int(length) > self._server.max_body:
            self._reply((413, {"error": f"the body may have at most {self._server.max_body} bytes"}))
        elif self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self._transport.write(self._http.send(go_on) or b"")

    def _take(self) -> None:
        """All of it has arrived."""
        self._is_taken = True
        self._late.cancel()
        reply = self._asked(self._waiting_or_reply)
        if isinstance(reply, tuple):
            self._reply(reply)
            return
        try:
            self._server.threads.submit(partial(self._wait, reply))
        except RuntimeError:
            log.warning("a call is not answered: the machine gives no further thread")
            self._abort()

    def _waiting_or_reply(self) -> Reply | Waiting:
        assert self._head is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._head.headers}
        return self._server.answer(self._head.target.decode("latin-1"), headers, bytes(self._body))

    def _wait(self, waiting: Waiting) -> None:
        """In a thread."""
        reply = self._asked(waiting)
        self._server.loop.call_soon_threadsafe(self._reply, reply)

    def _asked(self, answer: Callable[[], T]) -> T | Reply:
        try:
            return answer()
        except Exception:
            log.exception("a call failed")
            return _FAILED

    def _reply(self, reply: Reply) -> None:
        self._is_taken = True
        status, document = reply
        body = json.dumps(document).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        response = h11.Response(status_code=status, headers=headers)
        self._transport.write((self._http.send(response) or b"") + body)
        self._transport.close()
        self._leave()

    def _abort(self) -> None:
        self._transport.abort()
        self._leave()

    def _leave(self) -> None:
        if self._is_inside:
            self._is_inside = False
            self._server.leave()


class DaemonThreads:
    """One caller submits work. Unlike those of concurrent.futures, the threads are not joined at the exit."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self.started = 0

    def submit(self, work: Callable[[], None]) -> None:
        """`work` raises nothing. Raises RuntimeError when the machine gives no further thread."""
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
            self.started += 1
        self._work.put(work)

    def _run(self) -> None:
        while True:
            self._work.get()()
            self._idle.release()
