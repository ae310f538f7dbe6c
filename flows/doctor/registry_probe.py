"""Single questions to a registry, with its login dance, without any retry."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import httpx

from tasks.upstream.budget import Ledger
from tasks.upstream.connection.tls import Contexts, standard_dirs
from tasks.upstream.connection.waits import Waits
from tasks.upstream.connection.wire import Wire
from tasks.upstream.endpoints import Call, Endpoint
from tasks.upstream.errors import Where
from tasks.upstream.exchange import Exchanger
from tasks.upstream.options import UpstreamOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from tasks.upstream.connection.wire import Answer
    from tasks.upstream.login.credentials import Credentials
    from tasks.upstream.options import EndpointUrl

_CONNECT, _ANSWER = 5.0, 10.0  # seconds, at most: who waits for a doctor is a person


@dataclass(frozen=True, slots=True)
class PingResponse:
    """The answer to `GET /v2/`, before any login; `seconds` it took."""

    status: int
    headers: httpx.Headers
    seconds: float


class _Endpoint(Endpoint):
    """With other names in the scopes of tokens than in its paths, where it is told so."""

    def __init__(
        self, url: EndpointUrl, credentials: Credentials, waits: Waits, token_services: Collection[str]
    ) -> None:
        super().__init__(url, credentials, waits, token_services)
        self.scopes: dict[str, str] = {}

    def scope(self, call: Call, name: str) -> str:
        return super().scope(call, self.scopes.get(call.repository, name))


class RegistryProbe:
    """One registry at one url. Every method may raise an `UpstreamError`, and `Stopped`."""

    def __init__(
        self,
        url: EndpointUrl,
        credentials: Credentials,
        *,
        tls_verify: bool = True,
        cert_dir: Path | None = None,
        token_services: Collection[str] = (),
        connect_timeout: float = _CONNECT,
        answer_timeout: float = _ANSWER,
    ) -> None:
        """Raises `CertificatesInvalid`."""
        options = UpstreamOptions(
            urls=(url,),
            tls_verify=tls_verify,
            cert_dir=cert_dir,
            connect_timeout=min(connect_timeout, _CONNECT),
            response_header_timeout=min(answer_timeout, _ANSWER),
            read_timeout=min(answer_timeout, _ANSWER),
        )
        waits = Waits()
        self.url = url
        contexts = Contexts(cert_dir, verify=tls_verify, hosts=[url.host], standard=standard_dirs())
        self._wire = Wire(contexts, options, waits)
        self._exchanger = Exchanger(self._wire, Ledger(waits))
        self._endpoint = _Endpoint(url, credentials, waits, token_services)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    @property
    def host(self) -> str:
        """Its host, without a port."""
        return self._endpoint.base.host

    def alias_repository(self, repository: str, local: str) -> None:
        """With `?ns=` the server calls `repository` `local`, and gives tokens for that name."""
        self._endpoint.scopes[repository] = local

    def ping(self, path: str = "/v2/") -> PingResponse:
        """What it says to a stranger."""
        begun = time.monotonic()
        base, address = self._endpoint.base, f"{self._endpoint.root}{path}"
        with self._wire.send(httpx.Request("GET", address), base, Where(self.url.registry)) as answer:
            return PingResponse(answer.status, answer.headers, time.monotonic() - begun)

    @contextmanager
    def ask(
        self, kind: str, tail: str, repository: str = "", reference: str = "", **headers: str
    ) -> Iterator[Answer]:
        """`kind` begins with the method, `tail` follows the repository; its answer, below 400."""
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        call = Call(kind, tail, repository, reference, headers=named)
        with self._exchanger.open(self._endpoint, call) as answer:
            yield answer
