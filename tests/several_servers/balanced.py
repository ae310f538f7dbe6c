"""The servers, receivers and the nginx of docs/scaling.md, here: only addresses and paths are replaced."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from tests.registry_server.http.auth.support import write_users
from tests.several_servers.programs import Program
from tests.support.certificates import Authority
from tests.support.nginx import documented, free_ports, replaced, running_nginx
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "the password of ci"


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
    front, receiver_port, *ports = free_ports(4)
    authority = Authority(folder)
    url = f"https://127.0.0.1:{front}"
    made = Balanced(folder, url, ports, [], authority)
    _write_profile(made, upstream, receiver_port)
    write_users(folder / "htpasswd", {"ci": PASSWORD, "prometheus": PASSWORD})
    (folder / "on-miss.secret").write_text("only for this test")
    with Program("receive", made.profile) as receiver:
        receiver.said("press Ctrl-C")
        try:
            made.start()
            with running_nginx(folder, front, _configuration(authority, front, ports)):
                yield made
        finally:
            for server in made.servers:
                server.stop()


def _write_profile(made: Balanced, upstream: str, receiver_port: int) -> None:
    text = replaced(
        documented("docs/scaling.md", "servers.yaml"),
        ("/srv/mirror", str(made.folder / "store")),
        ("https://registry.example", made.url),
        ("https://quay.io", upstream),
        ("10.0.0.0/8", "127.0.0.0/8"),
        ("0.0.0.0, port: 8091", f"127.0.0.1, port: {receiver_port}"),
    )
    made.profile.write_text(text)


def _configuration(authority: Authority, front: int, ports: list[int]) -> str:
    pair = authority.server()
    return replaced(
        documented("docs/scaling.md", "mirror.conf"),
        ("mirror-1.example:8080", f"127.0.0.1:{ports[0]}"),
        ("mirror-2.example:8080", f"127.0.0.1:{ports[1]}"),
        ("443 ssl", f"127.0.0.1:{front} ssl"),
        ("/etc/nginx/registry.cert", str(pair.cert)),
        ("/etc/nginx/registry.key", str(pair.key)),
    )


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False
