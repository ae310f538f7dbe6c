"""podman, buildah, skopeo and CRI-O: a file in `registries.conf.d`, and `certs.d` of their own.

Of all tables the one with the longest prefix counts, and no other; its mirrors are asked in their order, then
`location`. Once a manifest came from a mirror, its blobs do too. Tag lists never come from a mirror.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.client_config.model import ClientConfig, ClientFile, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.client_config.model import Mirror
    from flows.client_config.routes import UpstreamHost

_FILE = "/etc/containers/registries.conf.d/50-mirrorflow.conf"
_CERTS = "/etc/containers/certs.d"
_CRI_O = "CRI-O takes it over with: systemctl reload crio"


def setup(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> ClientConfig:
    """For podman, buildah and skopeo; they read it anew at every call."""
    folder = f"{_CERTS}/{mirror.host}"
    text = "\n".join(line for host in hosts for line in _registry(mirror, host))
    files = (ClientFile(_FILE, text), *mirror.trust_files(folder))
    login = (f"The server requires a login: podman login {mirror.host}",) if mirror.wants_login else ()
    return ClientConfig(files, (*login, *mirror.trust_steps(folder)))


def cri_o(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> ClientConfig:
    """The same files; nodes log in by a file."""
    made = setup(mirror, hosts)
    login = (
        f"The server requires a login: name a file with one for {mirror.host} as global_auth_file in "
        "/etc/crio/crio.conf.d; CRI-O sends the pull secrets of a pod to no mirror."
    )
    trust = mirror.trust_steps(f"{_CERTS}/{mirror.host}")
    return ClientConfig(made.files, (_CRI_O, *((login,) if mirror.wants_login else ()), *trust))


def _registry(mirror: Mirror, host: UpstreamHost) -> Iterator[str]:
    for there, places in host.places().items():
        prefix = "/".join(filter(None, (host.name, there)))
        locations = ["/".join(filter(None, (mirror.host, place))) for place in places]
        # Without a way on to the upstream the last mirror is where the registry is.
        location = prefix if mirror.fallback else locations.pop()
        yield "[[registry]]"
        yield f"prefix = {quoted(prefix)}"
        yield f"location = {quoted(location)}"
        if mirror.plain if not mirror.fallback else host.url.startswith("http:"):
            yield "insecure = true"
        for each in locations:
            yield "[[registry.mirror]]"
            yield f"location = {quoted(each)}"
            if mirror.plain:
                yield "insecure = true"
        yield ""
