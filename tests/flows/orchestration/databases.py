"""Prefect servers that tell which database they have, and profiles for which that matters."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from profiles.loader import parse_profile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from profiles.model.profile import Profile


def parsed(folder: Path, sync: dict[str, Any] | None = None, **entry: Any) -> Profile:
    registry = {"name": "up", "urls": ["http://registry1:5000"], "content": [{"prefix": "**"}], **entry}
    document = {"storage": {"rootDirectory": "store"}, "sync": {**(sync or {}), "registries": [registry]}}
    return parse_profile(json.dumps(document), folder / "profile.json").profile


@contextmanager
def prefect_with(driver: str | None, status: int = 200) -> Iterator[SyncPrefectClient]:
    """A client of a server that tells this of its database."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            database = {"connection_url": "**********", "driver": driver}
            body = json.dumps({"server": {"database": database}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    from prefect.client.orchestration import SyncPrefectClient

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield SyncPrefectClient(f"http://127.0.0.1:{server.server_address[1]}/api")
    finally:
        server.shutdown()
        server.server_close()
