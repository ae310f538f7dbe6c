"""Layers that no registry distributes (`foreignLayers: fetch`): fetched from where their manifest says.

The addresses are the upstream's word. Nothing of ours goes there, and they may be no nearer to us than the
registry is (addresses.py).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import httpx

from tasks.upstream.endpoints import Call
from tasks.upstream.errors import UpstreamError, UpstreamProtocolError, UpstreamUnavailable, Where
from tasks.upstream.login.realm import is_plain

if TYPE_CHECKING:
    from tasks.upstream.blob import Transfer
    from tasks.upstream.endpoints import Endpoint
    from tasks.upstream.exchange import Exchanger

_MOST_URLS: Final = 4  # of one layer
_MOST_TRIES: Final = 10  # of one of them; each but the last brought bytes


def fetch_foreign(exchanger: Exchanger, endpoint: Endpoint, repository: str, transfer: Transfer) -> None:
    """From the first of the addresses in its descriptor that gives it (image-spec descriptor.md, `urls`).

    Raises the `UpstreamError` of the last one.
    """
    *others, last = transfer.descriptor.urls[:_MOST_URLS]
    for url in others:
        with suppress(UpstreamError):
            return _fetch(exchanger, endpoint, repository, transfer, url)
    return _fetch(exchanger, endpoint, repository, transfer, last)


def _fetch(exchanger: Exchanger, endpoint: Endpoint, repository: str, transfer: Transfer, text: str) -> None:
    """Goes on where the connection broke, as long as bytes come."""
    digest = transfer.descriptor.digest
    where = Where(endpoint.url.registry, repository, digest)
    url = _address(text, where)
    call = Call("GET foreign blob", "", repository, digest, url)
    for left in reversed(range(_MOST_TRIES)):
        before = transfer.moved
        try:
            return transfer.take_all(
                lambda headers: exchanger.open_foreign(endpoint, replace(call, headers=headers)), where
            )
        except UpstreamError as error:
            if isinstance(error, UpstreamUnavailable) and transfer.moved > before and left:
                continue
            error.explain(f"{url.host}, which the manifest names for it: {error.reason}")
            raise
    return None


def _address(text: str, where: Where) -> httpx.URL:
    """Raises `UpstreamProtocolError` for what no layer is fetched from."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):  # the latter: half a surrogate pair, which JSON can spell
        url = None
    if url is None or not is_plain(url):
        raise UpstreamProtocolError(where, "the manifest names no usable address for it")
    return url
