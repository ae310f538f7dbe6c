"""nginx as the documents configure it, started for a test."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.conftest import require_program
from tests.support.documents import ROOT, blocks
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAIN = """
daemon off; pid nginx.pid; error_log error.log warn; {user}
events {{ worker_connections 256; }}
http {{
    access_log access.log; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {http}
}}
"""


def documented(page: str, name: str) -> str:
    """The block of a page that says `file=NAME`."""
    return next(each for each in blocks(ROOT / page) if each.info.get("file") == name).text


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """With addresses and paths of this machine; each of the documented ones has to be there."""
    for written, here in changes:
        assert written in text
        text = text.replace(written, here)
    return text


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


@contextmanager
def running_nginx(folder: Path, port: int, http: str) -> Iterator[None]:
    """nginx that listens on `port`; `http` is what stands in its block of this name."""
    program = require_program("nginx")
    (folder / "main.conf").write_text(_MAIN.format(http=http, user="user root;" * (os.geteuid() == 0)))
    nginx = subprocess.Popen([program, "-p", folder, "-c", "main.conf", "-e", "error.log"])
    try:
        wait_for(lambda: nginx.poll() is not None or _listens(port))
        assert nginx.poll() is None, "standard error says why"
        yield
    finally:
        nginx.terminate()
        nginx.wait(30)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
