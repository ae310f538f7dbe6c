"""What an upstream registry can do, found out with some ten requests, none of them a counted pull."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from flows.doctor.example_images import upstream_example
from flows.doctor.findings import Subject
from flows.doctor.registry_probe import RegistryProbe
from flows.doctor.repository import RepositoryChecks
from profiles.matching import needs_catalog
from registry_server.counted import counted
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import RepositoryName
from tasks.upstream import bodies
from tasks.upstream.errors import UpstreamError
from tasks.upstream.lists.paging import names
from tasks.upstream.login.challenge import choose, parse_challenges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.doctor.findings import Finding
    from flows.doctor.registry_probe import PingResponse
    from profiles.model.registry_entry import RegistryEntry
    from profiles.values.upstream_url import UpstreamUrl
    from registry_server.store.store import Store
    from tasks.upstream.login.credentials import Credentials

_LISTED = 50  # names asked of a catalog
_SLOW = 2.0  # seconds
_SKEW = 60.0  # seconds that clocks may differ
_CATALOG_ADVICE = "name the repositories in `prefix` (prefix: library/nginx), or mirror this entry onDemand"
_NO_EXAMPLE = "nothing in the profile or the store names a repository of it: give one with --image REPO[:TAG]"


@dataclass(frozen=True, slots=True)
class UpstreamCheck:
    """One url of a registry entry; `wanted` is an image to ask for, by its upstream name, "" for any."""

    entry: RegistryEntry
    url: UpstreamUrl
    credentials: Credentials
    store: Store | None
    wanted: str = ""

    @property
    def subject(self) -> Subject:
        return Subject(f"{self.entry.name} at {self.url}" if len(self.entry.urls) > 1 else self.entry.name)

    def findings(self) -> Iterator[Finding]:
        """As they are made. Nothing is raised for what the registry does."""
        entry = self.entry
        try:
            with RegistryProbe(
                self.url,
                self.credentials,
                tls_verify=entry.tls_verify,
                cert_dir=entry.cert_dir,
                token_services=entry.token_services,
                connect_timeout=entry.connect_timeout,
                answer_timeout=entry.response_header_timeout,
            ) as probe:
                yield from self._ask(probe)
        except MirrorflowError as error:
            yield self.subject.failed("reachable", _reason(error))

    def _ask(self, probe: RegistryProbe) -> Iterator[Finding]:
        greeting = probe.ping()
        yield reached(self.subject, self.url, greeting)
        yield from clock(self.subject, greeting)
        yield identity(self.subject, self.url, self.credentials)
        repository, reference = self._example()
        if _polls_catalog(self.entry) or not repository:
            listed: list[str] = []
            yield _catalog(self.subject, probe, self.entry, listed)
            repository, reference = self._example(tuple(listed))
        if not repository:
            yield self.subject.note("content", "not checked", _NO_EXAMPLE)
            return
        checks = RepositoryChecks(
            self.subject,
            probe,
            repository,
            reference,
            lists_tags=_lists_tags(self.entry),
            asks_referrers=_asks_referrers(self.entry),
        )
        yield from checks.examine()

    def _example(self, listed: tuple[str, ...] = ()) -> tuple[str, str]:
        if self.wanted:
            return _split(self.wanted)
        return upstream_example(self.entry, self.url, self.store, listed)


def reached(subject: Subject, url: UpstreamUrl, greeting: PingResponse) -> Finding:
    took = f"{url.base}, {greeting.seconds * 1000:.0f} ms"
    if greeting.status == 401:
        challenge = choose(parse_challenges(greeting.headers.get_list("WWW-Authenticate")))
        kind = {"bearer": "tokens", "basic": "a password"}.get(challenge.scheme if challenge else "", "")
        took += f", asks for {kind}" if kind else ", refuses without a challenge"
    elif greeting.status != 200:
        return subject.failed(
            "reachable",
            f"{took}, answers {greeting.status} to GET /v2/",
            "a registry answers 200 or 401 there: check that `urls` names a registry and no path below it",
        )
    if greeting.seconds > _SLOW:
        return subject.note("reachable", took, "slow; check proxy, DNS and distance")
    return subject.ok("reachable", took)


def clock(subject: Subject, greeting: PingResponse) -> Iterator[Finding]:
    """Where its clock and ours differ: tokens and certificates hold for a while only."""
    try:
        theirs = parsedate_to_datetime(greeting.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return
    skew = time.time() - theirs
    if abs(skew) > _SKEW:
        found = f"this machine is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} it"
        yield subject.note("clock", found, "synchronise the clock that is wrong (chrony, systemd-timesyncd)")


def identity(subject: Subject, url: UpstreamUrl, credentials: Credentials) -> Finding:
    try:
        credential = credentials.find(url.registry)
    except MirrorflowError as error:
        return subject.failed("login", str(error))
    if credential is None:
        return subject.ok("login", "anonymous")
    who = credential.identity or credential.username or "the bearer of a token"
    return subject.ok("login", f"as {who} ({credential.source})")


def _polls_catalog(entry: RegistryEntry) -> bool:
    """Whether the mirror asks for the catalog."""
    return needs_catalog(entry) and (entry.timing is not None or not entry.on_demand)


def _lists_tags(entry: RegistryEntry) -> bool:
    """Whether the mirror asks for lists of tags: not where rules list images, nor for pulls on demand."""
    listing = entry.tag_listing != "local"
    return listing or (entry.is_synced and any(not rule.images for rule in entry.content))


def _asks_referrers(entry: RegistryEntry) -> bool:
    """Whether the mirror asks what refers to an image."""
    chosen = [rule.referrers for rule in entry.content if rule.referrers is not None]
    inherits = len(chosen) < len(entry.content) or not entry.content
    return any(each.follow for each in (*chosen, *([entry.referrers] if inherits else [])))


def _catalog(subject: Subject, probe: RegistryProbe, entry: RegistryEntry, listed: list[str]) -> Finding:
    try:
        with probe.ask("GET catalog", f"_catalog?n={_LISTED}") as answer:
            document = bodies.read_object(answer, bodies.MAX_LIST, "the catalog")
            listed += names(document.get("repositories"), "`repositories`", answer.where)
    except UpstreamError as error:
        if _polls_catalog(entry):
            return subject.failed("catalog", _reason(error), _CATALOG_ADVICE)
        return subject.ok("catalog", "none, and none is needed")
    prefix = f"{probe.url.path_prefix}/" if probe.url.path_prefix else ""
    valid = filter(RepositoryName.is_valid, listed)  # each becomes part of a path
    listed[:] = [name.removeprefix(prefix) for name in valid if name.startswith(prefix)]
    more = "at least " if len(listed) >= _LISTED else ""
    return subject.ok("catalog", f"{more}{counted(len(listed), 'repository', 'repositories')}")


def _split(image: str) -> tuple[str, str]:
    if "@" in image:
        repository, _, digest = image.partition("@")
        return repository, digest
    match = re.fullmatch(r"(.+?)(?::([^:/]+))?", image)
    assert match is not None
    return match[1], match[2] or ""


def _reason(error: MirrorflowError) -> str:
    return error.reason if isinstance(error, UpstreamError) else str(error)
