"""An HTTP Helm repository as if it were a registry: a chart is a repository, a version is a tag.

What a registry would answer is made from index.yaml and the archives. The steps see no difference.
"""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from tasks.upstream.blob import Transfer
from tasks.upstream.errors import (
    UpstreamContentError,
    UpstreamError,
    UpstreamNotFound,
    UpstreamProtocolError,
    Where,
)
from tasks.upstream.heads_at_once import Heads
from tasks.upstream.helm.chart import ChartInvalid, package
from tasks.upstream.helm.downloads import Downloads
from tasks.upstream.helm.index import HelmIndex, parse_index
from tasks.upstream.helm.plain_yaml import PlainYamlInvalid
from tasks.upstream.helm.records import HelmRecords, KnownIndex
from tasks.upstream.many_heads import Head
from tasks.upstream.registry import Fetched, UpstreamRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from tasks.upstream.blob import BlobSink
    from tasks.upstream.endpoints import Endpoint
    from tasks.upstream.heads_at_once import BegunHead
    from tasks.upstream.helm.chart import PackagedChart
    from tasks.upstream.helm.index import ChartVersion
    from tasks.upstream.login.credentials import Credentials
    from tasks.upstream.options import RegistryOptions

_FRESH = 60.0  # seconds until the index is asked for again: who answers clients runs for weeks
_REMEMBERED = 64 * 1024 * 1024  # bytes of archives between the steps that look at them and copy them
_UNKNOWN_DIGEST = "no chart that was asked for by its version has this digest; ask for the version first"
_log = logging.getLogger("mirrorflow.helm")


class HelmRepository(UpstreamRegistry):
    """Thread-safe. `records`: the folder in which several repositories keep what they know of theirs.

    `searching`: to find a digest, charts that nothing is known of yet are fetched. Who answers clients does
    not: anybody could make it fetch all charts, by a digest that does not exist.
    """

    def __init__(
        self,
        options: RegistryOptions,
        credentials: Credentials,
        *,
        records: Path | None = None,
        searching: bool = True,
        **more: Any,
    ) -> None:
        super().__init__(options, credentials, signs_at_once=True, **more)
        self._remark = more.get("remark", _log.info)
        url = options.urls[0]
        name = hashlib.sha256(f"{url.host}/{url.api_path}".encode()).hexdigest()[:16]
        self._records = HelmRecords(records / name if records else None)
        self._downloads = Downloads(self._exchanger)
        self._searching = searching
        self._index: KnownIndex | None = None
        self._index_until = float("-inf")
        self._index_turn = Lock()
        self._turns: dict[str, Lock] = {}
        self._charts: dict[str, PackagedChart] = {}  # by the key of their version
        self._archives: LRUCache[str, bytes] = LRUCache(_REMEMBERED, len)  # by digest
        self._lock = Lock()

    def repositories(self) -> Iterator[str]:
        yield from self._current().charts

    def tags(self, repository: str) -> list[str]:
        return list(self._versions(repository))

    def lists_wholly(self, repository: str) -> bool:  # noqa: ARG002 - the registry's signature
        return True

    def referrers(self, repository: str, digest: Digest) -> list[Descriptor]:  # noqa: ARG002 - the registry's signature
        return []

    def referrers_by_api(self, repository: str, digest: Digest) -> list[Descriptor]:  # noqa: ARG002 - the registry's signature
        return []

    def heads(self, repository: str, references: Sequence[str]) -> Heads:  # noqa: ARG002 - the registry's signature
        return Heads()

    def head(self, repository: str, reference: str, begun: BegunHead | None = None) -> Head:  # noqa: ARG002 - the registry's signature
        chart = self._find(repository, reference)
        return Head(chart.digest, media_types.OCI_MANIFEST, len(chart.manifest))

    def manifest(self, repository: str, reference: str, *, expected: Descriptor | None = None) -> Fetched:  # noqa: ARG002 - the registry's signature
        chart = self._find(repository, reference)
        return Fetched(chart.manifest, media_types.OCI_MANIFEST, chart.digest)

    def blob(self, repository: str, descriptor: Descriptor, sink: BlobSink, *, foreign: bool = False) -> int:  # noqa: ARG002 - the registry's signature
        for version in self._versions(repository).values():
            if version.digest == descriptor.digest.hex:
                return self._archive(version, descriptor, sink)
        for version, chart in self._packaged(repository):
            if chart.archive == descriptor:
                return self._archive(version, descriptor, sink)
            if content := chart.small_blobs().get(descriptor.digest):
                return _put(content, sink)
        raise self._missing(repository, descriptor.digest)

    def _archive(self, version: ChartVersion, descriptor: Descriptor, sink: BlobSink) -> int:
        with self._lock:
            content = self._archives.pop(descriptor.digest, None)
        if content is not None:
            return _put(content, sink)
        transfer = Transfer(descriptor, sink, partial(self._exchanger.count, "bytes"), self._bandwidth)
        self._endpoints.run(
            lambda endpoint: self._downloads.blob(endpoint, version, transfer),
            progress=lambda: transfer.moved,
        )
        return transfer.moved

    def _find(self, repository: str, reference: str) -> PackagedChart:
        versions = self._versions(repository)
        if ":" not in reference:
            if reference not in versions:
                raise self._missing(repository, reference)
            return self._package(versions[reference])
        for _, chart in self._packaged(repository):
            if chart.digest == reference:
                return chart
        raise self._missing(repository, reference)

    def _packaged(self, repository: str) -> Iterator[tuple[ChartVersion, PackagedChart]]:
        """All versions of a chart: first those that are known, for which nothing is fetched.

        One that is broken keeps none of the others away: its error is raised after them.
        """
        unknown: list[ChartVersion] = []
        errors: list[UpstreamError] = []
        for version in self._versions(repository).values():
            if (chart := self._known(version)) is not None:
                yield version, chart
            else:
                unknown.append(version)
        for version in unknown if self._searching else ():
            try:
                chart = self._package(version)
            except UpstreamError as error:
                if error.retryable:  # it is the repository that does not answer: do not ask for each
                    raise
                errors.append(error)
            else:
                yield version, chart
        if errors:
            raise errors[0]

    def _missing(self, repository: str, reference: str) -> UpstreamNotFound:
        known = ":" not in reference or self._searching
        reason = "its index has no such chart" if known else _UNKNOWN_DIGEST
        return UpstreamNotFound(Where(self.name, repository, reference), reason, 404)

    def _versions(self, repository: str) -> dict[str, ChartVersion]:
        found = self._current().charts.get(repository)
        if found is None:
            raise UpstreamNotFound(Where(self.name, repository), "its index has no such chart", 404)
        return dict(found)

    def _current(self) -> HelmIndex:
        with self._index_turn:
            if self._index is None or self._waits.clock() >= self._index_until:
                self._index = self._endpoints.run(self._look)
                self._index_until = self._waits.clock() + _FRESH
            return self._index.index

    def _look(self, endpoint: Endpoint) -> KnownIndex:
        known = self._index or self._records.index()
        known = known if known is not None and known.place == endpoint.root else None
        found = self._downloads.index(endpoint, known.etag if known else "")
        if found is None:
            assert known is not None, "the server was asked about it"
            return known
        body, etag = found
        try:
            index = parse_index(body)
        except PlainYamlInvalid as error:
            raise UpstreamProtocolError(Where(self.name), f"index.yaml: {error}") from error
        if index.unusable:
            shown = ", ".join(index.unusable[:3]) + (", …" if index.unusable[3:] else "")
            self._remark(f"{self.name}: its index has entries that no client can ask for: {shown}")
        fresh = KnownIndex(endpoint.root, etag, index)
        self._records.keep_index(fresh)
        return fresh

    def _known(self, version: ChartVersion) -> PackagedChart | None:
        """What was made of it before, here or by another process."""
        with self._lock:
            found = self._charts.get(version.key)
        if found is None and (found := self._records.chart(version.key)) is not None:
            with self._lock:
                self._charts[version.key] = found
        return found

    def _package(self, version: ChartVersion) -> PackagedChart:
        """Fetches the archive where it is not known yet, once for all threads that ask."""
        with self._lock:
            turn = self._turns.setdefault(version.key, Lock())
        self._waits.acquire(turn)
        try:
            return self._known(version) or self._endpoints.run(partial(self._fetch, version))
        finally:
            turn.release()

    def _fetch(self, version: ChartVersion, endpoint: Endpoint) -> PackagedChart:
        where = Where(self.name, version.name, version.tag)
        archive = self._downloads.archive(endpoint, version)
        self._exchanger.count("bytes", len(archive))
        digest = Digest.of(archive)
        if version.digest not in ("", digest.hex):
            raise UpstreamContentError(
                where, f"the chart is {digest}, and the index says sha256:{version.digest}"
            )
        provenance = self._downloads.provenance(endpoint, version)
        try:
            chart = package(archive, version.name, version.version, provenance)
        except ChartInvalid as error:
            raise UpstreamContentError(where, str(error)) from error
        with self._lock:
            self._charts[version.key] = chart
            if len(archive) <= self._archives.maxsize:
                self._archives[digest] = archive
        self._records.keep_chart(version.key, chart)
        return chart


def _put(content: bytes, sink: BlobSink) -> int:
    """What is there already of it is of the same content: the sink checks the digest."""
    rest = content[sink.offset :]
    sink.write(rest)
    return len(rest)
