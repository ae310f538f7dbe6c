"""Runs where names, ports and folders are ours alone, to try a shipped profile as it is written.

`python -m tests.clients.own_world SETTINGS` inside of `unshare --mount --net`: docker.io and k8s.gcr.io are
docker-registry behind a CA of the test's own, /tmp/zot and the like are folders of the test, and ports are
free. Prints JSON: what skopeo pulled, the catalog, and where the blobs went.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.entries import open_store
from flows.receiver.webhook import Receiver
from profiles.examples.shipped import shipped_profile
from profiles.loader import load_profile
from profiles.server_options import server_options
from registry_server.http.pull_through.webhook_client import OnMissOptions
from registry_server.http.server_process import ServerProcess
from tasks.on_demand.service import OnDemand
from tests.clients.programs import run
from tests.on_demand.mirrors import SECRET, Directly

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41
_SECONDS = 30


@dataclass(frozen=True)
class Settings:
    """`upstreams`: what docker-registry keeps, by host; `folders`: by what the profile calls them."""

    profile: str
    images: list[str]
    upstreams: dict[str, str]
    folders: dict[str, str]
    work: str
    cert: str
    key: str
    skopeo: str = "skopeo"
    docker_registry: str = "docker-registry"

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    _bring_up_loopback()
    hosts = Path(settings.work) / "hosts"
    addresses = {name: f"127.0.0.{number}" for number, name in enumerate(settings.upstreams, 2)}
    names = {"localhost": "127.0.0.1", **addresses}
    hosts.write_text("".join(f"{address} {name}\n" for name, address in names.items()))
    for real, shown in (
        (str(hosts), "/etc/hosts"),
        *((real, shown) for shown, real in settings.folders.items()),
    ):
        run("mount", "--bind", real, shown)
    with ExitStack() as running:
        for name, address in addresses.items():
            running.enter_context(_upstream(settings, name, address))
        work = running.enter_context(_mirror(settings))
        pulled = {image: _pull(settings, image) for image in settings.images}
        work.wait()
        with urllib.request.urlopen("http://localhost:8080/v2/_catalog", timeout=_SECONDS) as answer:
            catalog = json.load(answer)
        sys.stdout.write(json.dumps({"pulled": pulled, "catalog": catalog}))


def _bring_up_loopback() -> None:
    """As `ip link set lo up`, which not everybody has."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))


@contextmanager
def _upstream(settings: Settings, name: str, address: str) -> Iterator[None]:
    config = Path(settings.work) / f"{name}.yml"
    document = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": settings.upstreams[name]}},
        "http": {"addr": f"{address}:443", "tls": {"certificate": settings.cert, "key": settings.key}},
    }
    config.write_text(json.dumps(document))
    child = subprocess.Popen(
        [settings.docker_registry, "serve", str(config)], stderr=subprocess.DEVNULL, stdout=2
    )
    try:
        _await((address, 443), child)
        yield
    finally:
        child.terminate()
        child.wait()


def _await(address: tuple[str, int], child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _SECONDS
    while True:
        try:
            socket.create_connection(address).close()
        except OSError:
            assert child.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        else:
            return


@contextmanager
def _mirror(settings: Settings) -> Iterator[Directly]:
    """What `mirrorflow up` runs for the profile, without Prefect."""
    profile = load_profile(shipped_profile(settings.profile)).profile
    store, work = open_store(profile), Directly()
    service = OnDemand(profile, store, work)
    listener = socket.create_server(("127.0.0.1", 0))
    receiver = Receiver(listener, SECRET, service.answer, resolve=service.resolve)
    threading.Thread(target=receiver.serve, daemon=True).start()
    call = Path(settings.work) / "on-miss.json"
    call.write_text(OnMissOptions((f"http://127.0.0.1:{listener.getsockname()[1]}/",), SECRET, 20).to_json())
    server = ServerProcess(replace(server_options(profile), on_miss=call))
    try:
        yield work
    finally:
        server.stop()
        receiver.close()
        service.close()


def _pull(settings: Settings, image: str) -> str:
    """With the command of the page; the digest of the config."""
    target = Path(settings.work) / f"pulled-{image.replace('/', '-').replace(':', '-')}"
    run(
        settings.skopeo, "copy", "--src-tls-verify=false", f"docker://localhost:8080/{image}", f"dir:{target}"
    )
    return str(json.loads((target / "manifest.json").read_text())["config"]["digest"])


if __name__ == "__main__":
    os.environ["NO_PROXY"] = "*"  # upstreams are here
    main()
