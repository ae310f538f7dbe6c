"""BuildKit: `buildkitd.toml`. A mirror is a host and perhaps a path; how to reach it stands in a table of its
own. BuildKit resolves with containerd's code, so it names the registry in `?ns=`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.client_config.containerd import not_by_path
from flows.client_config.model import ClientConfig, ClientFile, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.client_config.model import Mirror
    from flows.client_config.routes import UpstreamHost

_FILE = "/etc/buildkit/buildkitd.toml"
_CERTS = "/etc/buildkit/certs.d"
_STEP = (
    f"If {_FILE} is there already, add these tables to it, and restart buildkitd. For a builder of buildx: "
    f"docker buildx create --use --buildkitd-config {_FILE}; 127.0.0.1 is the builder's container then."
)
_FALLBACK = "BuildKit always goes on to the upstream registry when its mirror has no answer or refuses."


def setup(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> ClientConfig:
    folder = f"{_CERTS}/{mirror.host}"
    lines = [line for host in hosts for line in _registry(mirror, host)]
    text = "\n".join((*lines, *_reach(mirror, folder)))
    login = (
        (f"The server requires a login; builds take the one of the client: docker login {mirror.host}",)
        if mirror.wants_login
        else ()
    )
    steps = (_STEP, *login, *mirror.trust_steps(folder), *not_by_path(mirror, hosts))
    files = (ClientFile(_FILE, f"{text}\n"), *mirror.trust_files(folder))
    return ClientConfig(files, steps if mirror.fallback else (*steps, _FALLBACK))


def _registry(mirror: Mirror, host: UpstreamHost) -> Iterator[str]:
    paths = ("",) if mirror.names_upstream else host.destinations()
    mirrors = ["/".join(filter(None, (mirror.host, path))) for path in paths]
    if mirrors:
        yield f"[registry.{quoted(host.name)}]"
        yield f"  mirrors = [{', '.join(map(quoted, mirrors))}]"
        yield ""


def _reach(mirror: Mirror, folder: str) -> Iterator[str]:
    yield f"[registry.{quoted(mirror.host)}]"
    yield f"  http = {str(mirror.plain).lower()}"
    if mirror.authority:
        yield f"  ca = [{quoted(f'{folder}/ca.crt')}]"
    if mirror.wants_certificate:
        yield f"  [[registry.{quoted(mirror.host)}.keypair]]"
        yield f"    key = {quoted(f'{folder}/client.key')}"
        yield f"    cert = {quoted(f'{folder}/client.cert')}"
