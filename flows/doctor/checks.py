"""All checks at once, and no longer than asked for."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flows.client_config.generate import mirror_of
from flows.doctor.destination import DestinationCheck
from flows.doctor.example_images import stored_example
from flows.doctor.findings import Subject
from flows.doctor.helm import HelmCheck
from flows.doctor.machine import MachineCheck, open_store
from flows.doctor.receivers import ReceiversCheck, is_of
from flows.doctor.server import ServerCheck
from flows.doctor.upstream import UpstreamCheck
from tasks.upstream.login.credential_sources import StandardCredentials
from tasks.upstream.login.identities.choice import credentials_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from flows.doctor.example_images import StoredExample
    from flows.doctor.findings import Finding
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry
    from profiles.values.upstream_url import UpstreamUrl
    from registry_server.store.store import Store


_SERVER = Subject("server")
# How this machine reaches a server that listens on every address.
_AT_HOME = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - looked up, not listened on


class Check(Protocol):
    @property
    def subject(self) -> Subject: ...
    def findings(self) -> Iterator[Finding]: ...


def build_checks(
    profile: Profile,
    entries: Sequence[RegistryEntry],
    environment: Mapping[str, str],
    *,
    address: str = "",
    cert_dir: Path | None = None,
    image: str = "",
) -> list[Check]:
    """Of the machine, the server, every url of `entries`, and the destinations. Raises `AddressUnusable`."""
    store = open_store(profile)
    credentials = StandardCredentials(profile.sync.credentials_file)
    upstreams = (
        HelmCheck(entry, url, ours) if url.kind == "helm" else UpstreamCheck(entry, url, ours, store, image)
        for entry in entries
        for ours in [credentials_for(entry, credentials)]
        for url in entry.urls
    )
    server = _server_check(profile, store, address, cert_dir)
    receivers = [ReceiversCheck(profile, store)] if is_of(profile) else []
    destinations = (
        DestinationCheck(each, [entry for entry in entries if each.name in entry.to], credentials, store)
        for each in profile.destinations
    )
    return [MachineCheck(profile, environment), server, *receivers, *upstreams, *destinations]


@dataclass(frozen=True, slots=True)
class UnknownAddressCheck:
    """Instead of a server's: the profile lets it listen on any free port."""

    subject: Subject = _SERVER

    def findings(self) -> Iterator[Finding]:
        yield self.subject.note("answers", "not checked: http.port is 0, any free port", "say --address")


def _server_check(profile: Profile, store: Store | None, address: str, cert_dir: Path | None) -> Check:
    http = profile.http
    if not (address or http.external_url or http.port):
        return UnknownAddressCheck()
    here = "" if http.external_url else _AT_HOME.get(http.address, "")
    mirror = mirror_of(profile, address=address or (f"{here}:{http.port}" if here else ""))
    held = stored_example(store, profile.entry_names()) if store is not None else None
    runs = store is not None and store.is_claimed_here("up")
    origin = _origin(profile, held)
    return ServerCheck(mirror, StandardCredentials(), held, origin, cert_dir, expected=bool(address) or runs)


def run_checks(checks: Sequence[Check], *, seconds: float) -> list[Finding]:
    """The findings of all checks, in their order; those that take longer say so."""
    found: list[list[Finding]] = [[] for _ in checks]
    done: queue.Queue[int] = queue.Queue()

    def work(number: int, check: Check) -> None:
        try:
            for finding in check.findings():
                found[number].append(finding)
        except Exception as error:  # noqa: BLE001 - a bug in one check must not hide what the others found
            found[number].append(check.subject.failed("check", f"{type(error).__name__}: {error}"))
        done.put(number)

    # Not a pool: Python waits for its threads at the end, and one of these may hang.
    for number, check in enumerate(checks):
        threading.Thread(target=work, args=[number, check], daemon=True).start()
    finished = _await(done, len(checks), seconds)
    return [
        finding
        for number, check in enumerate(checks)
        for finding in (*found[number], *(() if number in finished else (_late(check, seconds),)))
    ]


def _await(done: queue.Queue[int], number: int, seconds: float) -> set[int]:
    finished: set[int] = set()
    end = time.monotonic() + seconds
    while len(finished) < number:
        try:
            finished.add(done.get(timeout=max(0.0, end - time.monotonic())))
        except queue.Empty:
            break
    return finished


def _late(check: Check, seconds: float) -> Finding:
    return check.subject.failed("time", f"not finished after {seconds:g} s", "use --timeout to wait longer")


def _origin(profile: Profile, held: StoredExample | None) -> UpstreamUrl | None:
    entries = [entry for entry in profile.sync.registries if held is not None and entry.name == held.registry]
    return entries[0].urls[0] if entries else None
