"""A receiver of misses that fetches from memory: what it is told to have, it puts into the store."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from registry_server.http.pull_through.webhook_client import OnMissOptions
from registry_server.oci.reference import RepositoryName
from tests.registry_server.store.images import tag_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.store.store import Store


@dataclass(slots=True)
class Fetching:
    """`upstream`: repository -> tag -> layer. `asked` are the questions; `options` a file for `on_miss`.

    No question is answered while `gate` is not set.
    """

    store: Store
    options: Path
    upstream: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        name, reference = question["repository"], question.get("reference", "")
        self.asked.append(f"{name} {reference}")
        self.gate.wait()
        layer = self.upstream.get(name, {}).get(reference)
        repository = self.store.repository(RepositoryName(name))
        if layer is not None:
            tag_image(repository, reference, layer)
        if layer is not None or question["kind"] != "manifest" or ":" in reference:
            return {"outcome": "local"}
        return {"outcome": "refused", "status": 404, "code": "MANIFEST_UNKNOWN", "message": "not there"}


@contextmanager
def fetching(store: Store, folder: Path) -> Iterator[Fetching]:
    """A receiver for a server that has `on_miss=….options`; it runs as long as the block."""
    found = Fetching(store, folder / "on-miss.json")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(found.answer(question)).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        found.options.write_text(OnMissOptions((url,), b"only for this test", 20.0).to_json())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            found.gate.set()
            server.shutdown()
