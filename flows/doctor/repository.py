"""What an upstream says about one repository: tags, manifests, layers, referrers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.doctor.findings import CheckStatus
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, MirrorflowError
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from registry_server.oci.reference import RepositoryName, Tag, parse_reference
from tasks.upstream import bodies
from tasks.upstream.budget import read_budget
from tasks.upstream.endpoints import is_refused_head
from tasks.upstream.errors import UpstreamDenied, UpstreamError, UpstreamNotFound
from tasks.upstream.lists.listing import NO_API
from tasks.upstream.lists.paging import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.doctor.findings import Finding, Subject
    from flows.doctor.registry_probe import RegistryProbe
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.manifest import Manifest
    from tasks.upstream.budget import Budget

_PAGE = 2
_NEXT = re.compile(r'rel\s*=\s*"?next', re.IGNORECASE)
_LOW = 10  # pulls


@dataclass
class RepositoryChecks:
    """`reference` is a tag or digest, "" for one that its tag list has. Findings come as they are made.

    `lists_tags`, `asks_referrers`: whether the mirror makes these requests. Others are not tried.
    """

    subject: Subject
    probe: RegistryProbe
    repository: str
    reference: str = ""
    lists_tags: bool = True
    asks_referrers: bool = True
    _digest: Digest | None = None
    _budget: Budget | None = field(default=None)

    def examine(self) -> Iterator[Finding]:
        try:
            RepositoryName(self.repository)
            if self.reference:
                parse_reference(self.reference)
        except InvalidName as error:
            yield self.subject.failed("content", str(error))
            return
        if self.lists_tags or not self.reference:
            tags = self._tags()
            yield tags
            if tags.outcome is CheckStatus.FAILED and not self.reference:
                return
        if not self.reference:
            yield self.subject.note("manifest", f"{self.repository} has no tag", "give one with --image")
            return
        yield self._head()
        yield from self._metered()
        if self._digest is None:
            return
        if self.asks_referrers:
            yield self._referrers(self._digest)
        if self._budget is None:
            yield self._range(self._digest)
        else:
            yield self.subject.note("range", "not checked: here each GET of a manifest counts as a pull")

    @property
    def _image(self) -> str:
        sign = "@" if ":" in self.reference else ":"
        return f"{self.repository}{sign}{self.reference}"

    def _tags(self) -> Finding:
        try:
            with self.probe.ask("GET tags", f"tags/list?n={_PAGE}", self.repository) as answer:
                document = bodies.read_object(answer, bodies.MAX_LIST, "the tag list")
                found = names(document.get("tags"), "`tags`", answer.where)
                linked = bool(_NEXT.search(answer.headers.get("Link", "")))
        except UpstreamError as error:
            return self.subject.failed("tags", f"{self.repository}: {error.reason}", _advice(error))
        self.reference = self.reference or next(filter(Tag.is_valid, found), "")
        if linked:
            paging = "pages by Link"
        elif len(found) > _PAGE:
            paging = "all at once"
        elif len(found) == _PAGE:
            paging = f"{_PAGE} asked for, {_PAGE} given, no Link: the list may be incomplete"
        else:
            paging = f"{len(found)}"
        return self.subject.ok("tags", f"{self.repository}: {paging}")

    def _head(self) -> Finding:
        try:
            with self.probe.ask(
                "HEAD manifest",
                f"manifests/{self.reference}",
                self.repository,
                self.reference,
                accept=media_types.ACCEPT,
            ) as answer:
                headers = answer.headers
        except UpstreamError as error:
            if is_refused_head(error) and self._has_manifest():
                return self.subject.note("manifest", "no HEAD: each check of a tag costs a GET")
            return self.subject.failed("manifest", f"HEAD of {self._image}: {error.reason}", _advice(error))
        self._budget = read_budget(headers)
        lacking = [
            name
            for name in ("Docker-Content-Digest", "Content-Length", "Content-Type")
            if name not in headers
        ]
        try:
            self._digest = Digest(headers.get("Docker-Content-Digest", ""))
        except InvalidName:
            self._digest = None
        if lacking:
            found = f"HEAD of {self._image} has no {', '.join(lacking)}"
            return self.subject.note("manifest", found, "each check of a tag costs a GET as well")
        return self.subject.ok("manifest", f"HEAD of {self._image}: {str(self._digest)[:19]}")

    def _has_manifest(self) -> bool:
        try:
            with self.probe.ask(
                "GET manifest",
                f"manifests/{self.reference}",
                self.repository,
                self.reference,
                accept=media_types.ACCEPT,
            ):
                return True
        except UpstreamError:
            return False

    def _metered(self) -> Iterator[Finding]:
        if self._budget is None:
            yield self.subject.ok("rate limit", "none announced")
        elif self._budget.remaining <= max(self._budget.reserve, _LOW):
            advice = "log in (credentialsFile), or wait: until then the mirror sends only HEAD requests"
            yield self.subject.note("rate limit", str(self._budget), advice)
        else:
            yield self.subject.ok("rate limit", str(self._budget))

    def _referrers(self, digest: Digest) -> Finding:
        try:
            with self.probe.ask("GET referrers", f"referrers/{digest}", self.repository, digest) as answer:
                manifest = parse_manifest(bodies.read_whole(answer, bodies.MAX_LIST, "the list"), None)
        except UpstreamError as error:
            if error.status in NO_API:
                return self.subject.ok("referrers", "no API: the fallback tag is used")
            return self.subject.note("referrers", error.reason)
        except MirrorflowError as error:
            return self.subject.note("referrers", f"no list of referrers: {error}")
        return self.subject.ok("referrers", f"API, {len(manifest.manifests)} of this image")

    def _range(self, digest: Digest) -> Finding:
        """Of a config or layer; costs one GET of a manifest, or two of an index."""
        try:
            manifest = self._manifest(digest)
            if manifest.is_index and manifest.manifests:
                manifest = self._manifest(manifest.manifests[0].digest)
            # A small one: a registry that ignores Range begins to send all of it.
            blobs = [each for each in manifest.blobs if each.size > 1]
            blob = min(blobs, key=lambda each: each.size, default=None)
            if blob is None:
                return self.subject.note("range", f"not checked: {self._image} has no blob")
            return self._ranged(blob)
        except MirrorflowError as error:
            reason = error.reason if isinstance(error, UpstreamError) else str(error)
            return self.subject.failed("range", f"{self._image}: {reason}")

    def _ranged(self, blob: Descriptor) -> Finding:
        with self.probe.ask(
            "GET blob", f"blobs/{blob.digest}", self.repository, blob.digest, range="bytes=1-1"
        ) as answer:
            host, status = answer.response.request.url.host, answer.status
        elsewhere = "" if host == self.probe.host else f"; blobs come from {host}"
        if status == 206:
            return self.subject.ok("range", f"interrupted blobs are resumed{elsewhere}")
        return self.subject.note("range", f"not supported: an interrupted blob starts again{elsewhere}")

    def _manifest(self, digest: Digest) -> Manifest:
        """Raises an `UpstreamError`, `ManifestInvalid`."""
        with self.probe.ask(
            "GET manifest", f"manifests/{digest}", self.repository, digest, accept=media_types.ACCEPT
        ) as answer:
            body = bodies.read_whole(answer, MAX_MANIFEST_BYTES, "the manifest")
        return parse_manifest(body, media_types.without_parameters(answer.headers.get("Content-Type", "")))


def _advice(error: UpstreamError) -> str:
    if isinstance(error, UpstreamDenied):
        return "give credentials that may read it (credentialsFile), or correct the name; 401 can mean either"
    if isinstance(error, UpstreamNotFound):
        return "correct the name in the profile, or give another one with --image"
    return ""
