"""Our own server as an upstream: over a generated store, and it says what it was asked."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from registry_server.http.server_options import ServerOptions
from registry_server.http.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LINE = re.compile(
    r'mirrorflow_http_requests_total\{method="(\w+)",route="(\w+)",status="(\d+)"\} ([\d.e+]+)'
)
_BYTES = re.compile(r'mirrorflow_http_response_bytes_total\{route="blob"\} ([\d.e+]+)')


class Bundled:
    """`asked()`: what came since the last call, e.g. "HEAD manifest" -> 3; taken from /metrics."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        self._before: Counter[str] = Counter()
        self.asked()

    @property
    def host(self) -> str:
        return self.url.partition("//")[2]

    def asked(self) -> Counter[str]:
        now = self._totals()
        since = Counter({kind: number - self._before[kind] for kind, number in now.items()})
        self._before = now
        return +since

    def _totals(self) -> Counter[str]:
        with urlopen(f"{self.url}/metrics") as answer:  # noqa: S310 - our own server
            text = answer.read().decode()
        found: Counter[str] = Counter()
        for method, route, _status, number in _LINE.findall(text):
            found[f"{method} {route}"] += int(float(number))
        found["blob bytes"] = sum(int(float(number)) for number in _BYTES.findall(text))
        del found["GET metrics"]
        return found


@contextmanager
def bundled(root: Path, **options: Any) -> Iterator[Bundled]:
    """A bundled server in a child process; `options` are those of `ServerOptions`."""
    server = ServerProcess(ServerOptions(root, port=0, **options))
    try:
        yield Bundled(server.url, server.pid)
    finally:
        server.stop()
