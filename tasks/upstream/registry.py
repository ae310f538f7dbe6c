"""An upstream registry, as the tasks see it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

from registry_server.oci import media_types
from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, is_schema1
from registry_server.oci.reference import RepositoryName
from tasks.upstream import bodies
from tasks.upstream.blob import Transfer
from tasks.upstream.budget import Budget, Ledger, read_budget
from tasks.upstream.connection.bandwidth import Bandwidth
from tasks.upstream.connection.tls import Contexts, standard_dirs
from tasks.upstream.connection.waits import Waits
from tasks.upstream.connection.wire import Answer, Wire
from tasks.upstream.endpoints import Call, Endpoint, Endpoints, is_refused_head
from tasks.upstream.errors import (
    UpstreamContentError,
    UpstreamError,
    UpstreamLimited,
    UpstreamNotFound,
    UpstreamProtocolError,
    UpstreamSchema1,
    Where,
)
from tasks.upstream.exchange import Exchanger
from tasks.upstream.foreign import fetch_foreign
from tasks.upstream.heads_at_once import BegunHead, Heads, HeadsAtOnce, manifest_call
from tasks.upstream.lists.listing import NO_API, Lister, parse_list, repositories
from tasks.upstream.many_heads import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from registry_server.oci.descriptor import Descriptor
    from tasks.upstream.blob import BlobSink
    from tasks.upstream.login.credentials import Credentials
    from tasks.upstream.options import RegistryOptions


log = logging.getLogger("mirrorflow.upstream")

# What a HEAD says is left may not be what a GET gets: then waiting for it would never end.
_LIMITED_TRIES = 3
_BRIEF = 1 << 20  # bytes: more may take long, and leaves a slot of the host for what does not


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest: its exact bytes, verified when it was asked for by digest."""

    body: bytes
    media_type: str
    digest: Digest


class UpstreamRegistry:
    """One registry entry in one run. Thread-safe; every method may raise an `UpstreamError`, `Stopped`,
    `CredentialsInvalid`, or `InvalidName` for names that break the grammar.

    Repository names are the upstream's own, without the path of its url.
    """

    def __init__(
        self,
        options: RegistryOptions,
        credentials: Credentials,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        mark: str = "",
        remark: Callable[[str], None] = log.info,
        bandwidth: Bandwidth | None = None,
        actions: str = "pull",
        signs_at_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`mark`: what this mirror is called in `Via`. `signs_at_once`: a password needs no challenge.

        `remark` takes what the user should know and what is no failure.
        """
        self.name = options.urls[0].registry
        waits = self._waits = Waits(cancelled, clock=clock, sleep=sleep)
        self._bandwidth = bandwidth or Bandwidth()
        contexts = Contexts(
            options.cert_dir,
            verify=options.tls_verify,
            hosts=[url.host for url in options.urls],
            standard=standard_dirs(),
        )
        self._wire = Wire(contexts, options, waits, mark=mark)
        self._ledger = Ledger(waits)
        self._exchanger = Exchanger(self._wire, self._ledger)
        services = options.token_services
        endpoints = [
            Endpoint(url, credentials, waits, services, actions, signs_at_once=signs_at_once)
            for url in options.urls
        ]
        self._endpoints = Endpoints(endpoints, waits)
        self._heads = HeadsAtOnce(self._wire, self._exchanger, self._ledger, waits, options)
        self._perhaps_cut: set[str] = set()  # repositories
        self._lister = Lister(self._exchanger, remark)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._heads.close()
        self._wire.close()

    def requests(self) -> dict[str, int]:
        """So far: {"HEAD manifest": n, "GET manifest": n, "GET blob": n, "GET tags": n, "bytes": n, …}."""
        return self._exchanger.counts()

    def budget(self) -> Budget | None:
        """What is left of a pull limit; None where none was met."""
        return self._ledger.snapshot()

    def repositories(self) -> Iterator[str]:
        """The catalog. Names are as upstream sent them: not validated."""
        listing = self._lister.catalog()
        yield from self._endpoints.run(
            lambda endpoint: repositories(listing, endpoint), progress=lambda: listing.progress
        )

    def tags(self, repository: str) -> list[str]:
        """All tags as upstream sent them: not validated. Raises `UpstreamNotFound`."""
        listing = self._lister.tags(RepositoryName(repository))
        found = self._endpoints.run(listing, progress=lambda: listing.progress)
        if not listing.is_surely_whole:
            self._perhaps_cut.add(repository)
        return found

    def lists_wholly(self, repository: str) -> bool:
        """Whether `tags` named all there are, as far as can be known: a tag that it lacks is not there."""
        return repository not in self._perhaps_cut

    def referrers(self, repository: str, digest: Digest) -> list[Descriptor]:
        """What refers to `digest`: by the API, else from the index under the fallback tag; [] for nothing.

        Descriptors under a fallback tag may carry a wrong artifactType: who needs it reads the manifest.
        """
        found = self.referrers_by_api(repository, digest)
        if found is not None:
            return found
        tag = fallback_tag(digest)
        try:
            fetched = self.manifest(repository, tag)
        except UpstreamNotFound:
            return []
        return list(parse_list(fetched.body, Where(self.name, repository, tag)))

    def referrers_by_api(self, repository: str, digest: Digest) -> list[Descriptor] | None:
        """What refers to `digest`; None where the registry does not have the referrers API."""
        listing = self._lister.referrers(RepositoryName(repository), digest)
        try:
            return self._endpoints.run(listing, progress=lambda: listing.progress)
        except UpstreamError as error:
            if error.status not in NO_API:
                raise
            return None

    def heads(self, repository: str, references: Sequence[str]) -> Heads:
        """What can be said at once of many, by one thread; it may be nothing. Raises `Stopped`."""
        return self._heads.ask(self._endpoints.current, RepositoryName(repository), references)

    def head(self, repository: str, reference: str, begun: BegunHead | None = None) -> Head:
        """One HEAD; one GET more where the HEAD is refused, also with 404, or does not have a digest.

        `begun`: `heads` has sent the HEAD already.
        """
        return self._endpoints.run(partial(self._head_or_get, repository, reference, begun=begun))

    def _head_or_get(
        self, repository: str, reference: str, endpoint: Endpoint, *, begun: BegunHead | None
    ) -> Head:
        status = None
        if asked := endpoint.asks_head():
            try:
                if found := self._head(manifest_call("HEAD", repository, reference), endpoint, begun):
                    endpoint.head_worked()
                    return found
            except UpstreamError as error:
                if not is_refused_head(error):
                    raise
                status = error.status
        call = manifest_call("GET", repository, reference)
        with self._spend(repository, reference):
            fetched = self._manifest(call, None, endpoint)
        if asked:
            endpoint.head_was_useless(status)
        return Head(fetched.digest, fetched.media_type, len(fetched.body))

    def _head(self, call: Call, endpoint: Endpoint, begun: BegunHead | None) -> Head | None:
        first = begun.request if begun is not None and begun.endpoint is endpoint else None
        with self._exchanger.open(endpoint, call, first) as answer:
            digest = _announced(answer)
            length = answer.headers.get("Content-Length", "")
        if digest is None:
            return None
        if ":" in call.reference:
            _check_digest(digest, Digest(call.reference), answer)
        return Head(digest, _media_type(answer), int(length) if length.isdecimal() else -1)

    def _spend(self, repository: str, reference: str) -> AbstractContextManager[None]:
        """One of the pulls that the registry has left for us, if it counts them."""
        where = Where(self.name, repository, reference)
        return self._ledger.spend(lambda: self._is_metered(repository, reference), where)

    def manifest(self, repository: str, reference: str, *, expected: Descriptor | None = None) -> Fetched:
        """The bytes behind a tag or digest; `expected` is the descriptor that led here, if one did.

        Raises `UpstreamContentError` when they are not what was asked for, `UpstreamSchema1`.
        """
        call = manifest_call("GET", repository, reference)
        for left in reversed(range(_LIMITED_TRIES)):
            with self._spend(repository, reference):
                try:
                    return self._endpoints.run(lambda endpoint: self._manifest(call, expected, endpoint))
                except UpstreamLimited:
                    if not left or not self._ledger.is_low():
                        raise
        raise AssertionError("the last try returns or raises")

    def _is_metered(self, repository: str, reference: str) -> bool:
        """Look at the pull limit by a HEAD, which is free. Without HEAD there is no look, and no waiting."""
        call = manifest_call("HEAD", repository, reference)

        def look(endpoint: Endpoint) -> bool:
            try:
                with self._exchanger.open(endpoint, call) as answer:
                    return read_budget(answer.headers) is not None
            except UpstreamError as error:
                if is_refused_head(error):
                    return False
                raise

        return self._endpoints.run(look)

    def _manifest(self, call: Call, expected: Descriptor | None, endpoint: Endpoint) -> Fetched:
        with self._exchanger.open(endpoint, call) as answer:
            body = bodies.read_whole(answer, MAX_MANIFEST_BYTES, "the manifest")
        media_type = expected.media_type if expected else _media_type(answer)
        if is_schema1(body, media_type):
            raise UpstreamSchema1(
                answer.where, "a Docker schema 1 manifest, whose digest does not cover it: it cannot be kept"
            )
        if expected is not None and len(body) != expected.size:
            raise UpstreamContentError(
                answer.where,
                f"the size of the manifest is {len(body)}; its descriptor promises {expected.size}",
            )
        return Fetched(body, media_type, _verified(body, call.reference, answer))

    def blob(self, repository: str, descriptor: Descriptor, sink: BlobSink, *, foreign: bool = False) -> int:
        """Stream a blob into `sink`, from `sink.offset` on; return the bytes moved.

        `foreign`: a layer that the registry does not have is fetched from where its descriptor says.
        A broken connection is resumed as long as bytes come. The digest is the sink's to check.
        """
        name = RepositoryName(repository)
        transfer = Transfer(descriptor, sink, partial(self._exchanger.count, "bytes"), self._bandwidth)
        if not transfer.done:
            try:
                self._endpoints.run(
                    lambda endpoint: self._blob(name, descriptor, transfer, endpoint),
                    progress=lambda: transfer.moved,
                )
            except UpstreamNotFound:
                if not (foreign and descriptor.is_foreign and descriptor.urls):
                    raise
                fetch_foreign(self._exchanger, self._endpoints.current, name, transfer)
        return transfer.moved

    def _blob(self, name: str, descriptor: Descriptor, transfer: Transfer, endpoint: Endpoint) -> None:
        brief = descriptor.size <= _BRIEF
        call = Call("GET blob", f"blobs/{descriptor.digest}", name, descriptor.digest, brief=brief)
        transfer.take_all(
            lambda headers: self._exchanger.open(endpoint, replace(call, headers=headers)),
            endpoint.where(call),
        )


def _announced(answer: Answer) -> Digest | None:
    """Docker-Content-Digest, if it is one: only ever compared, never believed."""
    try:
        return Digest(answer.headers.get("Docker-Content-Digest", ""))
    except InvalidName:
        return None


def _media_type(answer: Answer) -> str:
    media_type = media_types.without_parameters(answer.headers.get("Content-Type", ""))
    if media_type == "text/html":
        raise UpstreamProtocolError(
            answer.where, "it answered with a web page: a login page or a proxy may be in between"
        )
    return media_type


def _check_digest(digest: Digest, wanted: Digest, answer: Answer) -> None:
    if digest != wanted and digest.algorithm == wanted.algorithm:
        raise UpstreamContentError(answer.where, f"it says that this is {digest}")


def _verified(body: bytes, reference: str, answer: Answer) -> Digest:
    """The digest of `body`, which is the one asked for and, by tag, the one announced."""
    announced = _announced(answer)
    wanted = Digest(reference) if ":" in reference else announced
    digest = Digest.of(body, wanted.algorithm if wanted else "sha256")
    if wanted is not None and digest != wanted:
        raise UpstreamContentError(answer.where, f"expected content with digest {wanted}, got {digest}")
    return digest
