"""The registry server, asked as its clients ask it: the login dance, names here, `?ns=`, Range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from flows.doctor.findings import CheckStatus, Subject
from flows.doctor.registry_probe import RegistryProbe
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import MAX_MANIFEST_BYTES
from tasks.upstream import bodies
from tasks.upstream.errors import UpstreamDenied, UpstreamError, UpstreamUntrusted
from tasks.upstream.login.challenge import choose, parse_challenges
from tasks.upstream.options import PlainUrl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flows.client_config.model import Mirror
    from flows.doctor.example_images import StoredExample
    from flows.doctor.findings import Finding
    from flows.doctor.registry_probe import PingResponse
    from profiles.values.upstream_url import UpstreamUrl
    from tasks.upstream.login.credentials import Credentials

# What containerd and docker send (containerd/remotes/docker, resolver.go).
_ACCEPT = (
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"
)
_NEEDED = ("Docker-Content-Digest", "Content-Length", "Content-Type")
_START = "start it: mirrorflow up PROFILE"
_ELSEWHERE = "another program may listen there: stop it, choose another http.port, or give --address"


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """`held` is an image of the store to ask for, `origin` the url that it came from. `expected`: the server
    should run, so that one that does not answer is a failure."""

    mirror: Mirror
    credentials: Credentials
    held: StoredExample | None = None
    origin: UpstreamUrl | None = None
    cert_dir: Path | None = None
    expected: bool = True

    @property
    def subject(self) -> Subject:
        return Subject(f"server {self.mirror.url}")

    def findings(self) -> Iterator[Finding]:
        """As they are made. Nothing is raised for what the server does."""
        try:
            with RegistryProbe(_as_url(self.mirror), self.credentials, cert_dir=self.cert_dir) as probe:
                yield from self._ask(probe)
        except UpstreamUntrusted as error:
            reason = error.reason.partition(";")[0]
            yield self.subject.failed("answers", reason, _trust(self.mirror, reason))
        except UpstreamError as error:
            reached = self.subject.failed if self.expected else self.subject.note
            yield reached("answers", error.reason.partition(";")[0], _START)
        except MirrorflowError as error:
            yield self.subject.failed("answers", str(error))

    def _ask(self, probe: RegistryProbe) -> Iterator[Finding]:
        greeting = probe.ping()
        reached = self._reached(greeting)
        yield reached
        if reached.outcome is CheckStatus.FAILED:
            return
        if greeting.status == 401:
            yield self._login(probe, greeting)
        ready = probe.ping("/readyz")
        if ready.status != 200:
            yield self.subject.failed("ready", f"/readyz says {ready.status}", "see its log")
        if self.held is None:
            yield self.subject.note("pull", "not checked: no image is stored yet", "pull one, or sync")
            return
        yield from self._pulls(probe, self.held)

    def _reached(self, greeting: PingResponse) -> Finding:
        if greeting.status not in (200, 401):
            return self.subject.failed("answers", f"{greeting.status} to GET /v2/", _ELSEWHERE)
        if "Docker-Distribution-Api-Version" not in greeting.headers:
            return self.subject.failed("answers", "the answer is not that of a registry", _ELSEWHERE)
        return self.subject.ok("answers", f"{greeting.status} to GET /v2/, {greeting.seconds * 1000:.0f} ms")

    def _login(self, probe: RegistryProbe, greeting: PingResponse) -> Finding:
        challenge = choose(parse_challenges(greeting.headers.get_list("WWW-Authenticate")))
        realm = httpx.URL(challenge.realm) if challenge is not None else None
        if (
            realm is not None
            and realm.host
            and f"{realm.scheme}://{realm.netloc.decode()}" != self.mirror.url
        ):
            found = f"clients are sent to {realm.scheme}://{realm.netloc.decode()} for tokens"
            return self.subject.failed("login", found, f"write http.externalUrl: {self.mirror.url}")
        who = self.credentials.find(self.mirror.host)
        name = f"as {who.username}" if who is not None else "anonymously"
        try:
            with probe.ask("GET ping", ""):
                return self.subject.ok("login", f"{name}, as clients do")
        except UpstreamDenied as error:
            advice = f"docker login {self.mirror.host} (or podman login), or give anonymousPolicy: [read]"
            return self.subject.failed("login", f"{name}: {error.reason}", advice)

    def _pulls(self, probe: RegistryProbe, held: StoredExample) -> Iterator[Finding]:
        yield self._head("podman, skopeo", probe, held, str(held.repository))
        if self.origin is not None and self.mirror.names_upstream:
            yield self._by_namespace(probe, held, self.origin)
        if self.origin is not None and self.origin.is_docker_hub:
            yield self._at_the_root(probe, held, self.origin)
        yield self._digest(probe, held)
        yield self._range(probe, held)

    def _head(
        self,
        who: str,
        probe: RegistryProbe,
        held: StoredExample,
        repository: str,
        *,
        query: str = "",
        host: str = "",
    ) -> Finding:
        """As `who` asks for a tag; of another `host`, if it has one."""
        name = f"{f'{host}/' if host else ''}{repository}:{held.tag}{query}"
        headers = {"host": host} if host else {}
        try:
            with probe.ask(
                *("HEAD manifest", f"manifests/{held.tag}{query}", repository, held.tag),
                accept=_ACCEPT,
                **headers,
            ) as answer:
                said = answer.headers
        except UpstreamError as error:
            return self.subject.failed(who, f"HEAD {name}: {error.reason}", _pull_advice(error))
        if lacking := [each for each in _NEEDED if each not in said]:
            return self.subject.failed(
                who, f"HEAD {name}: no {', '.join(lacking)}", "a proxy in between may change answers"
            )
        if "Warning" in said:
            return self.subject.note(who, f"HEAD {name}: {said['Warning'][:200]}", "the upstream fails")
        return self.subject.ok(who, f"HEAD {name}")

    def _by_namespace(self, probe: RegistryProbe, held: StoredExample, origin: UpstreamUrl) -> Finding:
        there = origin.repository(held.source)
        probe.alias_repository(there, str(held.repository))
        return self._head("containerd, k3s", probe, held, there, query=f"?ns={origin.registry}")

    def _at_the_root(self, probe: RegistryProbe, held: StoredExample, origin: UpstreamUrl) -> Finding:
        there = origin.repository(held.source)
        probe.alias_repository(there, str(held.repository) if self.mirror.hub_host else there)
        found = self._head("docker", probe, held, there, host=self.mirror.hub_host)
        if found.outcome is CheckStatus.FAILED and there != held.repository:
            advice = "give it a host of its own (http.vhosts), drop its `destination`, or use Docker 29"
            return self.subject.note("docker", f"{there} is {held.repository} here", advice)
        return found

    def _digest(self, probe: RegistryProbe, held: StoredExample) -> Finding:
        """By digest, and its bytes."""
        name = f"{held.repository}@{held.manifest}"
        try:
            with probe.ask(
                "GET manifest", f"manifests/{held.manifest}", held.repository, accept=_ACCEPT
            ) as answer:
                body = bodies.read_whole(answer, MAX_MANIFEST_BYTES, "the manifest")
        except UpstreamError as error:
            return self.subject.failed("by digest", error.reason, _pull_advice(error))
        if Digest.of(body, held.manifest.algorithm) != held.manifest:
            return self.subject.failed(
                "by digest", f"{name} does not match its digest", "mirrorflow store scrub PROFILE"
            )
        return self.subject.ok("by digest", f"{held.repository}@{held.manifest[:19]}")

    def _range(self, probe: RegistryProbe, held: StoredExample) -> Finding:
        try:
            with probe.ask(
                "GET blob", f"blobs/{held.blob}", held.repository, held.blob, range="bytes=0-0"
            ) as answer:
                status = answer.status
        except UpstreamError as error:
            return self.subject.failed("range", error.reason, _pull_advice(error))
        if status != 206:
            return self.subject.failed(
                "range", f"{status} instead of 206", "a proxy in between may change answers"
            )
        return self.subject.ok("range", "206 for a part of a blob")


def _as_url(mirror: Mirror) -> PlainUrl:
    return PlainUrl(mirror.scheme, mirror.host)


def _trust(mirror: Mirror, reason: str) -> str:
    if "mismatch" in reason:
        return "give a name that the certificate has with --address, as clients do"
    if mirror.wants_certificate:
        return "give with --cert-dir the CA (NAME.crt) and a client certificate (NAME.cert, NAME.key)"
    return "clients must trust its CA: give it with --cert-dir (NAME.crt) to check the rest"


def _pull_advice(error: UpstreamError) -> str:
    if isinstance(error, UpstreamDenied):
        return "give the client's user, or everybody (anonymousPolicy), the action read"
    return "see the server's log"
