"""What an HTTP Helm repository has: its index, and whether one of its charts can be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.doctor.findings import Subject
from flows.doctor.upstream import identity
from profiles.matching import mappings
from registry_server.counted import counted
from registry_server.oci.errors import MirrorflowError
from tasks.upstream.helm.repository import HelmRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.doctor.findings import Finding
    from profiles.model.registry_entry import RegistryEntry
    from profiles.values.upstream_url import UpstreamUrl
    from tasks.upstream.login.credentials import Credentials

_ADVICE = "`urls` names it as `helm repo add` does, with helm+ before it: helm+https://charts.example/stable"


@dataclass(frozen=True, slots=True)
class HelmCheck:
    """One url of a registry entry."""

    entry: RegistryEntry
    url: UpstreamUrl
    credentials: Credentials

    @property
    def subject(self) -> Subject:
        return Subject(f"{self.entry.name} at {self.url}" if len(self.entry.urls) > 1 else self.entry.name)

    def findings(self) -> Iterator[Finding]:
        """Nothing is raised for what the repository does."""
        yield identity(self.subject, self.url, self.credentials)
        remarks: list[str] = []
        alone = self.entry.model_copy(update={"urls": (self.url,)})
        try:
            with HelmRepository(alone, self.credentials, remark=remarks.append) as repository:
                yield from self._ask(repository)
        except MirrorflowError as error:
            yield self.subject.failed("index", str(error), _ADVICE)
        for remark in remarks:
            yield self.subject.note("index", remark, "nothing, if no client needs them")

    def _ask(self, repository: HelmRepository) -> Iterator[Finding]:
        charts = list(repository.repositories())
        yield self.subject.ok("index", f"{counted(len(charts), 'chart')} at {self.url.base}")
        wanted = [name for name in charts if mappings(self.entry, name)]
        if not wanted:
            advice = "name charts of its index in `prefix`"
            yield self.subject.note("content", "the rules take none of its charts", advice)
            return
        tags = repository.tags(wanted[0])
        found = repository.head(wanted[0], tags[0])
        yield self.subject.ok("chart", f"{wanted[0]} {tags[0]} becomes {found.digest}")
