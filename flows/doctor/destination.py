"""What another registry that images are written to would let us do. Nothing is pushed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.doctor.findings import Subject
from flows.doctor.registry_probe import RegistryProbe
from flows.doctor.upstream import clock, identity, reached
from profiles.matching import literal_repositories, local_name
from registry_server.oci.errors import MirrorflowError
from registry_server.store.mirror_state.ledger import open_ledger
from tasks.upstream.errors import UpstreamError, UpstreamNotFound
from tasks.upstream.push.registry import NO_REPOSITORY, PushRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.doctor.findings import Finding
    from profiles.model.destination import DestinationEntry
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.store.store import Store
    from tasks.upstream.login.credentials import Credentials

_LOGIN = (
    "log in with docker or podman, or name a file in sync.credentialsFile; the login needs the right to push"
)


@dataclass(frozen=True, slots=True)
class DestinationCheck:
    """One destination; `entries` are the registry entries whose images go there."""

    settings: DestinationEntry
    entries: Sequence[RegistryEntry]
    credentials: Credentials
    store: Store | None

    @property
    def subject(self) -> Subject:
        return Subject(f"destination {self.settings.name}")

    def findings(self) -> Iterator[Finding]:
        """As they are made. Nothing is raised for what the registry does."""
        settings = self.settings
        try:
            with RegistryProbe(
                settings.url,
                self.credentials,
                tls_verify=settings.tls_verify,
                cert_dir=settings.cert_dir,
                token_services=settings.token_services,
                connect_timeout=settings.connect_timeout,
                answer_timeout=settings.response_header_timeout,
            ) as probe:
                greeting = probe.ping()
            yield reached(self.subject, settings.url, greeting)
            yield from clock(self.subject, greeting)
            yield identity(self.subject, settings.url, self.credentials)
            yield self._push()
        except MirrorflowError as error:
            yield self.subject.failed("reachable", _reason(error))

    def _push(self) -> Finding:
        """An upload is opened and cancelled: the registry says whether it would take a blob."""
        repository = self._example()
        if not repository:
            return self.subject.note(
                "push", "not checked", "nothing has gone there yet, and no rule names a repository literally"
            )
        with PushRegistry(self.settings, self.credentials) as registry:
            try:
                registry.open_and_cancel(repository)
            except UpstreamNotFound as error:
                if error.code in NO_REPOSITORY:
                    return self._missing(repository)
                return self.subject.failed("push", _reason(error), _LOGIN)
            except UpstreamError as error:
                return self.subject.failed("push", f"into {repository}: {_reason(error)}", _LOGIN)
        return self.subject.ok("push", f"it takes blobs for {repository}")

    def _missing(self, repository: str) -> Finding:
        if self.settings.create_repositories is not None:
            return self.subject.ok("push", f"{repository} is not there yet; createRepositories makes it")
        advice = "make it (in Harbor its project), or let `createRepositories` make it in Amazon ECR"
        return self.subject.failed("push", f"there is no repository {repository}", advice)

    def _example(self) -> str:
        """A repository there that something has gone into, or that a rule names; "" for none."""
        entry = self.entries[0].name if self.entries else ""
        for name in self._written():
            return self.settings.repository(name, entry)
        for each in self.entries:
            for rule in each.content:
                for upstream in literal_repositories(rule):
                    if (local := local_name(rule, upstream)) is not None:
                        return self.settings.repository(local, each.name)
        return ""

    def _written(self) -> Iterator[str]:
        if self.store is not None and (self.store.root / "destinations" / self.settings.ledger).is_dir():
            yield from open_ledger(self.store.root, self.settings.ledger, create=False).repositories()


def _reason(error: MirrorflowError) -> str:
    return error.reason if isinstance(error, UpstreamError) else str(error)
