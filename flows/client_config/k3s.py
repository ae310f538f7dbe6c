"""k3s and RKE2: `registries.yaml`, of which they make containerd's files; `rewrite` is theirs alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from flows.client_config.model import ClientConfig, ClientFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.client_config.model import Mirror
    from flows.client_config.routes import UpstreamHost

_FILE = "/etc/rancher/k3s/registries.yaml"
_CERTS = "/etc/rancher/k3s/certs.d"
_STEP = (
    "On every node; then: systemctl restart k3s (or k3s-agent). RKE2 has the same file in /etc/rancher/rke2."
)
_ONLY = "k3s goes on upstream unless each node is started with --disable-default-registry-endpoint."


def setup(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> ClientConfig:
    folder = f"{_CERTS}/{mirror.host}"
    document = {"mirrors": {host.name: _mirrored(mirror, host) for host in hosts}}
    if reach := _reach(mirror, folder):
        document["configs"] = {mirror.host: reach}
    text = yaml.safe_dump(document, sort_keys=False, width=1000)
    steps = (_STEP, *(() if mirror.fallback else (_ONLY,)), *_login(mirror), *mirror.trust_steps(folder))
    return ClientConfig(
        (ClientFile(_FILE, text), *mirror.trust_files(folder)), (*steps, *_lost(mirror, hosts))
    )


def _mirrored(mirror: Mirror, host: UpstreamHost) -> dict[str, Any]:
    """With `?ns=` the server itself knows the names: a rewritten one would be looked for upstream."""
    found: dict[str, Any] = {"endpoint": [mirror.url]}
    if not mirror.names_upstream and (rewrites := dict(_rewrites(host))):
        found["rewrite"] = rewrites
    return found


def _rewrites(host: UpstreamHost) -> Iterator[tuple[str, str]]:
    """Special ones first; a place that is one of several cannot be said."""
    for there, places in sorted(host.places().items(), key=lambda each: -len(each[0])):
        if places[0] == there:
            continue
        if there:
            yield f"^{re.escape(there)}(/.*)?$", f"{places[0]}$1".removeprefix("/")
        else:
            yield "^(.*)$", f"{places[0]}/$1"


def _reach(mirror: Mirror, folder: str) -> dict[str, Any]:
    tls: dict[str, Any] = {"ca_file": f"{folder}/ca.crt"} if mirror.authority else {}
    if mirror.wants_certificate:
        tls |= {"cert_file": f"{folder}/client.cert", "key_file": f"{folder}/client.key"}
    return {"tls": tls} if tls else {}


def _login(mirror: Mirror) -> tuple[str, ...]:
    if not mirror.wants_login:
        return ()
    place = f'configs: {{"{mirror.host}": {{auth: {{username: USER, password: PASSWORD}}}}}}'
    return (f"The server requires a login: add {place}, and let only root read the file.",)


def _lost(mirror: Mirror, hosts: Sequence[UpstreamHost]) -> Iterator[str]:
    if mirror.names_upstream:
        return
    for host in hosts:
        for there, places in host.places().items():
            if len(places) > 1:
                others = ", ".join(places[1:])
                yield f"{there} of {host.name} is {places[0]} here, and not {others}: k3s rewrites once."
