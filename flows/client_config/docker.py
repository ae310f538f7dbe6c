"""Docker: `registry-mirrors` for Docker Hub; from version 29 on, hosts.toml for every registry.

The classic image store asks mirrors for Docker Hub only, at the root path and without `?ns=`. The containerd
image store reads the files of containerd in /etc/docker/certs.d.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flows.client_config.containerd import hosts_files
from flows.client_config.model import ClientConfig, ClientFile
from flows.client_config.routes import Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.client_config.model import Mirror
    from flows.client_config.routes import UpstreamHost

_FILE = "/etc/docker/daemon.json"
_CERTS = "/etc/docker/certs.d"
_HUB = "docker.io"
_NEW = (
    "Files hosts.toml are read by Docker 29 and later, and by 28 with the containerd image store; older ones "
    "mirror Docker Hub only, and pull all else by its name here."
)
_FALLBACK = "Docker always goes on to Docker Hub when its registry mirror has no answer or refuses."
_LOGIN = (
    "The server requires a login, and Docker sends none to a registry mirror: set `anonymousPolicy: [read]` "
    "for what comes from Docker Hub, or pull by the names here, after: docker login {host}"
)


def setup(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> ClientConfig:
    folder = f"{_CERTS}/{mirror.host}"
    daemon = _daemon(mirror, hosts)
    files = (ClientFile(_FILE, json.dumps(daemon, indent=2) + "\n"),) if daemon else ()
    files = (*files, *hosts_files(mirror, hosts, _CERTS), *mirror.trust_files(folder))
    if mirror.hub_host:
        files = (*files, *mirror.trust_files(f"{_CERTS}/{mirror.hub_host}"))
    return ClientConfig(files, (*_steps(mirror, hosts), *mirror.trust_steps(folder)))


def _daemon(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> dict[str, Any]:
    at = f"{mirror.scheme}://{mirror.hub_host or mirror.host}"
    mirrors = {"registry-mirrors": [at]} if _hub(hosts) is not None else {}
    plain = [mirror.host, *([mirror.hub_host] if mirror.hub_host else [])]
    return mirrors | ({"insecure-registries": plain} if mirror.plain else {})


def _steps(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> Iterator[str]:
    yield f"If {_FILE} is there already, add these keys to it. Then: systemctl restart docker"
    yield _NEW
    hub = _hub(hosts)
    if hub is not None and not mirror.hub_host and not any(map(_at_root, hub.routes)):
        names = ", ".join(f"{route.there or 'NAME'} as {route.here or 'NAME'}" for route in hub.routes)
        yield (
            f"The profile keeps {names}, and Docker before 29 asks a registry mirror for the names of Docker "
            "Hub: it will find none of them. Give the entry a host of its own (http.vhosts), or drop "
            "`destination` and write https://docker.io into `urls`."
        )
    if hub is not None and not mirror.fallback:
        yield _FALLBACK
    if mirror.wants_login:
        yield _LOGIN.format(host=mirror.host)


def _at_root(route: Route) -> bool:
    """Whether the names of Docker Hub are the names here; `library/` is put before a name once, not twice."""
    return route.destination == "" or route == Route("library", "")


def _hub(hosts: Sequence[UpstreamHost]) -> UpstreamHost | None:
    return next((host for host in hosts if host.name == _HUB), None)
