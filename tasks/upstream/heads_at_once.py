"""HEADs of the tags of one repository, as many as are answered plainly: signed, counted, and understood."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import httpx

from registry_server.oci import media_types
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import RepositoryName, parse_reference
from tasks.upstream.endpoints import Call
from tasks.upstream.many_heads import HeadBatch, ManyHeads, plain_head, requests_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.upstream.budget import Ledger
    from tasks.upstream.connection.http1_response import ResponseParser
    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.connection.wire import Begun, Wire
    from tasks.upstream.endpoints import Endpoint
    from tasks.upstream.exchange import Exchanger
    from tasks.upstream.many_heads import Head
    from tasks.upstream.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class BegunHead:
    """A HEAD that `endpoint` was sent, and that was not answered plainly."""

    endpoint: Endpoint
    request: Begun


@dataclass(frozen=True, slots=True)
class Heads:
    """By reference: what was said, and what somebody has to go on with. About all others nothing is known."""

    found: dict[str, Head] = field(default_factory=dict)
    begun: dict[str, BegunHead] = field(default_factory=dict)


class HeadsAtOnce:
    """Thread-safe."""

    def __init__(
        self, wire: Wire, exchanger: Exchanger, ledger: Ledger, waits: Waits, options: RegistryOptions
    ) -> None:
        self._wire, self._exchanger, self._ledger = wire, exchanger, ledger
        self._waits, self._options = waits, options
        self._hosts: dict[Endpoint, ManyHeads] = {}
        self._lock = Lock()

    def ask(self, endpoint: Endpoint, repository: RepositoryName, references: Sequence[str]) -> Heads:
        """Nothing where a login is due, connections are lacking, or a pause. Raises `Stopped`."""
        if not references or not endpoint.asks_head():
            return Heads()
        try:
            many = self._many(endpoint)
        except MirrorflowError:
            return Heads()  # `UpstreamRegistry.head` says what is wrong with a proxy or a certificate
        if not many.has_room(len(references)):
            return Heads()
        call = manifest_call("HEAD", repository, references[0])
        head = self._exchanger.spelled(endpoint, call)
        if head is None:
            return Heads()
        batch = HeadBatch(deque(references), requests_of(head, references[0]), self._read)
        many.ask(batch)
        if batch.found:
            self._exchanger.count(call.kind, len(batch.found))
            endpoint.head_worked()
        begun = {reference: BegunHead(endpoint, each) for reference, each in batch.begun.items()}
        return Heads(batch.found, begun)

    def close(self) -> None:
        with self._lock:
            for many in self._hosts.values():
                many.close()

    def _read(self, reference: str, response: ResponseParser) -> Head | None:
        found = plain_head(reference, response)
        if found is not None and any(name.lower() == b"ratelimit-limit" for name, _ in response.headers):
            self._ledger.read(httpx.Headers(response.headers))
        return found

    def _many(self, endpoint: Endpoint) -> ManyHeads:
        with self._lock:
            found = self._hosts.get(endpoint)
            if found is None:
                most, seconds = self._options.req_concurrent, self._options.response_header_timeout
                host = self._wire.host(endpoint.base)
                found = ManyHeads(host, endpoint.base, self._waits, most=most, seconds=seconds)
                self._hosts[endpoint] = found
            return found


def manifest_call(method: str, repository: str, reference: str) -> Call:
    reference = parse_reference(reference)
    return Call(
        f"{method} manifest",
        f"manifests/{reference}",
        RepositoryName(repository),
        reference,
        headers={"Accept": media_types.ACCEPT},
    )
