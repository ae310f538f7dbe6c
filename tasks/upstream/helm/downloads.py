"""Files of a Helm repository: its index, archives and provenance files, over the client of a registry.

An index names addresses of archives. One at the repository's own origin gets its login; any other is asked
without, and may be no nearer to us than the repository is (connection/addresses.py).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import httpx

from tasks.upstream import bodies
from tasks.upstream.endpoints import Call
from tasks.upstream.errors import UpstreamError, UpstreamNotFound, UpstreamProtocolError
from tasks.upstream.helm.chart import MAX_ARCHIVE
from tasks.upstream.login.realm import is_plain, origin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from tasks.upstream.blob import Transfer
    from tasks.upstream.connection.wire import Answer
    from tasks.upstream.endpoints import Endpoint
    from tasks.upstream.exchange import Exchanger
    from tasks.upstream.helm.index import ChartVersion

T = TypeVar("T")
_MAX_INDEX = 64 * 1024 * 1024  # bytes
_MAX_PROVENANCE = 256 * 1024  # bytes
_SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"


class Downloads:
    """Every method may raise an `UpstreamError` or `Stopped`."""

    def __init__(self, exchanger: Exchanger) -> None:
        self._exchanger = exchanger

    def index(self, endpoint: Endpoint, etag: str) -> tuple[bytes, str] | None:
        """index.yaml and what it is called (ETag); None where `etag` still holds (RFC 9110, 13.1.2)."""
        headers = {"If-None-Match": etag} if etag else {}
        call = Call("GET index", "", page=httpx.URL(f"{endpoint.root}/index.yaml"), headers=headers)
        try:
            with self._exchanger.open(endpoint, call) as answer:
                body = bodies.read_whole(answer, _MAX_INDEX, "index.yaml")
                return body, answer.headers.get("ETag", "")
        except UpstreamNotFound as error:
            error.explain(f"{error.reason}: no index.yaml there; `urls` has to name the repository of charts")
            raise
        except UpstreamError as error:
            if error.status == 304 and etag:
                return None
            raise

    def archive(self, endpoint: Endpoint, version: ChartVersion) -> bytes:
        return self._first(endpoint, version, _ARCHIVE)

    def provenance(self, endpoint: Endpoint, version: ChartVersion) -> bytes | None:
        """The file beside the archive that says who packaged it; None where there is none."""
        try:
            found = self._first(endpoint, version, _PROVENANCE)
        except UpstreamError as error:
            if error.status in (401, 403, 404, 410):  # object storage has 403 for what is not there
                return None
            raise
        return found if found.lstrip().startswith(_SIGNED) else None  # others answer 200 with a web page

    def blob(self, endpoint: Endpoint, version: ChartVersion, transfer: Transfer) -> None:
        """The archive, resumed where it broke off."""

        def take(call: Call) -> None:
            transfer.take_all(
                lambda headers: self._open(endpoint, replace(call, headers=headers)), endpoint.where(call)
            )

        _try_each(take, [_call(endpoint, version, text, _BLOB) for text in version.urls])

    def _first(self, endpoint: Endpoint, version: ChartVersion, file: _File) -> bytes:
        def whole(call: Call) -> bytes:
            with self._open(endpoint, call) as answer:
                return bodies.read_whole(answer, file.limit, file.name)

        return _try_each(whole, [_call(endpoint, version, text, file) for text in version.urls])

    def _open(self, endpoint: Endpoint, call: Call) -> AbstractContextManager[Answer]:
        assert call.page is not None
        ours = origin(call.page) == origin(endpoint.base)
        return (self._exchanger.open if ours else self._exchanger.open_foreign)(endpoint, call)


@dataclass(frozen=True, slots=True)
class _File:
    """`kind` is what requests are counted as, `suffix` what its address has behind that of the archive."""

    name: str
    kind: str
    limit: int
    suffix: str = ""


_ARCHIVE = _File("the chart", "GET chart", MAX_ARCHIVE)
_PROVENANCE = _File("the provenance file", "GET provenance", _MAX_PROVENANCE, ".prov")
_BLOB = _File("the chart", "GET blob", MAX_ARCHIVE)


def _try_each(work: Callable[[Call], T], calls: Sequence[Call]) -> T:
    """The first that succeeds. Raises the error of the last one."""
    *others, last = calls
    for call in others:
        with suppress(UpstreamError):
            return work(call)
    return work(last)


def _call(endpoint: Endpoint, version: ChartVersion, text: str, file: _File) -> Call:
    """A relative address begins at the repository, as helm has it."""
    call = Call(file.kind, "", version.name, version.tag)
    try:
        url = httpx.URL(f"{endpoint.root}/").join(text)
        if file.suffix:  # not by `path`, which would decode it
            path, mark, query = url.raw_path.partition(b"?")
            url = url.copy_with(raw_path=path + file.suffix.encode() + mark + query)
    except (httpx.InvalidURL, ValueError):
        url = None
    if url is None or not is_plain(url):
        raise UpstreamProtocolError(endpoint.where(call), "the index names no usable address for it")
    if endpoint.base.scheme == "https" and url.scheme == "http":
        raise UpstreamProtocolError(
            endpoint.where(call), f"the index names {url.host} without https; refused"
        )
    return replace(call, page=url)
