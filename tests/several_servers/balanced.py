"""The servers, receivers and the nginx of docs/scaling.md, here: only addresses and paths are replaced."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from tests.conftest import require_program
from tests.registry_server.http.auth.support import write_users
from tests.several_servers.programs import Program
from tests.support.certificates import Authority
from tests.support.documents import ROOT, Block, blocks
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
    include mirror.conf;
}}
"""
PASSWORD = "the password of ci"


def _block(name: str) -> Block:
    found = (each for each in blocks(ROOT / "docs/scaling.md") if each.info.get("file") == name)
    return next(found)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


@dataclass
class Balanced:
    """`url` is nginx; `ports` are those of the servers behind it."""

    folder: Path
    url: str
    ports: list[int]
    servers: list[Program]
    authority: Authority

    @property
    def profile(self) -> Path:
        return self.folder / "servers.yaml"

    @property
    def host(self) -> str:
        return self.url.partition("//")[2]

    def client(self) -> httpx.Client:
        trusted = ssl.create_default_context(cafile=self.authority.cert)
        return httpx.Client(
            base_url=self.url, verify=trusted, timeout=60, headers={"Accept-Encoding": "identity"}
        )

    def kill_and_restart(self, number: int) -> None:
        """kill -9 of a server, while the other one is there; the next one on its port begins at once."""
        wait_for(lambda: all(map(_is_ready, self.ports)))
        self.servers[number].kill()
        self.servers[number].stop()
        self.servers[number] = self._serve(number)

    def start(self) -> None:
        self.servers = [self._serve(number) for number in range(len(self.ports))]
        for server in self.servers:
            server.said("press Ctrl-C")

    def _serve(self, number: int) -> Program:
        port = self.ports[number]
        return Program("serve", self.profile, "--address", "127.0.0.1", "--port", port, "--workers", 2)


@contextmanager
def balanced(folder: Path, upstream: str) -> Iterator[Balanced]:
    """Two servers and a receiver over one store, behind nginx."""
    program = require_program("nginx")
    front, receiver_port, *ports = free_ports(4)
    authority = Authority(folder)
    url = f"https://127.0.0.1:{front}"
    made = Balanced(folder, url, ports, [], authority)
    _write_profile(made, upstream, receiver_port)
    _write_nginx(folder, authority, front, ports)
    write_users(folder / "htpasswd", {"ci": PASSWORD, "prometheus": PASSWORD})
    (folder / "on-miss.secret").write_text("only for this test")
    with Program("receive", made.profile) as receiver:
        receiver.said("press Ctrl-C")
        nginx = subprocess.Popen([program, "-p", folder, "-c", "main.conf", "-e", "error.log"])
        try:
            made.start()
            wait_for(lambda: _listens(front))
            yield made
        finally:
            nginx.terminate()
            nginx.wait(30)
            for server in made.servers:
                server.stop()


def _write_profile(made: Balanced, upstream: str, receiver_port: int) -> None:
    text = _block("servers.yaml").text
    for written, here in (
        ("/srv/mirror", str(made.folder / "store")),
        ("https://registry.example", made.url),
        ("https://quay.io", upstream),
        ("10.0.0.0/8", "127.0.0.0/8"),
        ("0.0.0.0, port: 8091", f"127.0.0.1, port: {receiver_port}"),
    ):
        assert written in text
        text = text.replace(written, here)
    made.profile.write_text(text)


def _write_nginx(folder: Path, authority: Authority, front: int, ports: list[int]) -> None:
    pair = authority.server()
    text = _block("mirror.conf").text
    for written, here in (
        ("mirror-1.example:8080", f"127.0.0.1:{ports[0]}"),
        ("mirror-2.example:8080", f"127.0.0.1:{ports[1]}"),
        ("443 ssl", f"127.0.0.1:{front} ssl"),
        ("/etc/nginx/registry.cert", str(pair.cert)),
        ("/etc/nginx/registry.key", str(pair.key)),
    ):
        assert written in text
        text = text.replace(written, here)
    (folder / "mirror.conf").write_text(text)
    (folder / "main.conf").write_text(_MAIN.format(user="user root;" if os.geteuid() == 0 else ""))


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
