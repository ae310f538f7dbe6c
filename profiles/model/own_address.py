"""Whether an upstream is the mirror itself: it would wait for itself, or copy what it has."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from profiles.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.server.http import Http
    from profiles.model.sync import RegistryEntry, Sync
    from profiles.values.upstream_url import UpstreamUrl

_DEFAULT_PORTS = {"https": 443, "http": 80}


def is_own_address(url: UpstreamUrl, http: Http) -> bool:
    """By what the profile says; a name for this machine that it does not say is found out by the server."""
    host, port = _host_and_port(f"{url.scheme}://{url.host}")
    if host in http.vhosts:
        return True
    if http.external_url and (host, port) == _host_and_port(http.external_url):
        return True
    if not http.port or port != http.port:
        return False
    return host == http.address.lower() or (url.is_loopback and _takes_loopback(http.address))


def without_own_addresses(entry: RegistryEntry, http: Http) -> RegistryEntry:
    """The entry without this mirror's own addresses: the members of a ring can have one profile.

    (As in zot.) An entry with no other address was refused when the profile was loaded.
    """
    others = tuple(url for url in entry.urls if not is_own_address(url, http))
    return entry if len(others) in (0, len(entry.urls)) else entry.model_copy(update={"urls": others})


def contradictions(sync: Sync, http: Http) -> Iterator[Refusal]:
    """Between the registry entries and where the server listens; paths begin at the top."""
    for number, entry in enumerate(sync.registries):
        if all(is_own_address(url, http) for url in entry.urls):
            yield Refusal(
                f"{entry.name!r} is the address at which this mirror itself listens",
                "write the address of another registry, or let http.port be another one",
                at=("sync", "registries", number, "urls"),
                involves=("http",),
            )
    names = {entry.name for entry in sync.registries}
    for host, name in http.vhosts.items():
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            yield Refusal(
                f"no registry entry is called {name!r}",
                f"write the name of an entry ({known})",
                at=("http", "vhosts", host),
                involves=("sync",),
            )


def _host_and_port(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return (parts.hostname or "").lower().rstrip("."), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _takes_loopback(address: str) -> bool:
    if address.lower() == "localhost":
        return True
    try:
        found = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    return found.is_loopback or found.is_unspecified
