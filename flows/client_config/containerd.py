"""containerd: `certs.d/<registry>/hosts.toml`, and the same for Docker's containerd image store.

containerd asks each [host] in its order and goes on at any error, at last to `server`. It names the registry
in `?ns=`; without that only a path can be put before the upstream's names (`override_path`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.client_config.model import ClientConfig, ClientFile, quoted, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.client_config.model import Mirror
    from flows.client_config.routes import UpstreamHost

FOLDER = "/etc/containerd/certs.d"
_DIAL = "5s"  # containerd 2.1 and later; a mirror that is gone must not cost 30 s a pull
_STEP = (
    "containerd must know the folder; then it reads the files without a restart. In config.toml of "
    f'containerd 1.x: [plugins."io.containerd.grpc.v1.cri".registry] config_path = "{FOLDER}"; of 2.x: '
    f'[plugins."io.containerd.cri.v1.images".registry] config_path = "{FOLDER}".'
)
_LOGIN = (
    "The server requires a login: add it to each hosts.toml where the comment is, and let only root read it; "
    "or give `anonymousPolicy: [read]`. containerd sends the pull secrets of a pod to no mirror."
)


def setup(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> ClientConfig:
    files = (*hosts_files(mirror, hosts, FOLDER), *mirror.trust_files(f"{FOLDER}/{mirror.host}"))
    login = (_LOGIN,) if mirror.wants_login else ()
    trust = mirror.trust_steps(f"{FOLDER}/{mirror.host}")
    return ClientConfig(files, (_STEP, *login, *trust, *not_by_path(mirror, hosts)))


def hosts_files(mirror: Mirror, hosts: Sequence[UpstreamHost], folder: str) -> tuple[ClientFile, ...]:
    """One for each registry; with `?ns=` also the one that stands for all others."""
    files = [
        ClientFile(f"{folder}/{host.name}/hosts.toml", "\n".join(_registry(mirror, host, folder)) + "\n")
        for host in hosts
        if mirror.names_upstream or host.destinations()
    ]
    if mirror.names_upstream:
        text = "\n".join(
            (
                "# Every registry that has no folder here: the mirror says 404 to those that the profile",
                "# does not name, and containerd goes on. Leave it out if no registry is to be added.",
                *_host(mirror, "", folder),
            )
        )
        files.append(ClientFile(f"{folder}/_default/hosts.toml", text + "\n"))
    return tuple(files)


def not_by_path(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> Iterator[str]:
    """What cannot be had without `?ns=`, in sentences."""
    if mirror.names_upstream:
        return
    for host in hosts:
        lost = [route for route in host.routes if route.destination is None]
        yield from (unreachable(mirror, host, route) for route in lost)


def _registry(mirror: Mirror, host: UpstreamHost, folder: str) -> Iterator[str]:
    """Where there is no way on, the last place is the `server` too: it is asked after all hosts, always, and
    a file without any host is refused by containerd 1.6, which goes on upstream then."""
    places = ("",) if mirror.names_upstream else host.destinations()
    if mirror.fallback:
        yield f"server = {quoted(host.url)}"
    else:
        yield f"server = {quoted(_url(mirror, places[-1]))}"
        yield from _reached(mirror, places[-1], folder)
        yield from _login(mirror, "header")
    for place in places:
        yield ""
        yield from _host(mirror, place, folder)


def _host(mirror: Mirror, destination: str, folder: str) -> Iterator[str]:
    table = f"host.{quoted(_url(mirror, destination))}"
    yield f"[{table}]"
    yield from (f"  {line}" for line in _reached(mirror, destination, folder))
    yield from (f"  {line}" for line in _login(mirror, f"{table}.header"))


def _url(mirror: Mirror, destination: str) -> str:
    return f"{mirror.url}/v2/{destination}" if destination else mirror.url


def _reached(mirror: Mirror, destination: str, folder: str) -> Iterator[str]:
    trusted = f"{folder}/{mirror.host}"
    yield 'capabilities = ["pull", "resolve"]'
    if destination:
        yield "override_path = true"
    if mirror.authority:
        yield f"ca = {quoted(f'{trusted}/ca.crt')}"
    if mirror.wants_certificate:
        yield f"client = [[{quoted(f'{trusted}/client.cert')}, {quoted(f'{trusted}/client.key')}]]"
    yield f"dial_timeout = {quoted(_DIAL)}"


def _login(mirror: Mirror, table: str) -> Iterator[str]:
    if mirror.wants_login:
        yield f"# [{table}]"
        yield '# authorization = "Basic …"  # of: printf %s USER:PASSWORD | base64'
