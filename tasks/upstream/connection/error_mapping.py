"""The one place where the exceptions of httpx, ssl and the operating system become ours."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import httpx

from tasks.upstream.errors import (
    UpstreamError,
    UpstreamProtocolError,
    UpstreamUnavailable,
    UpstreamUntrusted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.upstream.errors import Where
    from tasks.upstream.options import RegistryOptions

E = TypeVar("E", bound=BaseException)

_TRUST = (
    "put the certificate of its CA as NAME.crt into the folder that certDir names, "
    "or write `tlsVerify: false` to go without"
)
_CLIENT_PAIR = "put the pair NAME.cert and NAME.key into the folder that certDir names"
_CLIENT_ALERTS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "HANDSHAKE_FAILURE", "UNKNOWN_CA")


@contextmanager
def mapped(
    where: Where, options: RegistryOptions, *, body: bool = False, elsewhere: str = "", proxy: str = ""
) -> Iterator[None]:
    """Raise an `UpstreamError` for whatever the network does in this block.

    `body`: headers have come. `elsewhere`: the host that the registry sent us to, if it did. `proxy`: the
    proxy's host, if the request goes through one.
    """
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        found = _mapped(error, where, options, body=body)
        if proxy:
            found.explain(_through(proxy, error, found.reason))
        if elsewhere:
            found.explain(f"at {elsewhere}, where it sends us: {found.reason}")
        raise found from error


def _mapped(error: Exception, where: Where, options: RegistryOptions, *, body: bool) -> UpstreamError:
    if (of_tls := _find(error, ssl.SSLError)) is not None and not isinstance(of_tls, ssl.SSLEOFError):
        return _tls(of_tls, where)
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return UpstreamUnavailable(where, _timeout(error, options, body=body))
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return UpstreamProtocolError(where, f"no request can be made of this: {error}")
    return UpstreamUnavailable(where, _broken(error, body=body), at_once=True)


def _through(proxy: str, error: Exception, reason: str) -> str:
    if _find(error, socket.gaierror) is not None:  # whoever resolves the registry's name, it is not us
        reason = "its host name cannot be resolved; correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
    return f"through the proxy {proxy} that the environment names: {reason}"


def _timeout(error: Exception, options: RegistryOptions, *, body: bool) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {options.connect_timeout:g} s (connectTimeout)"
    if body:
        return f"no byte for {options.read_timeout:g} s (readTimeout)"
    return f"no answer within {options.response_header_timeout:g} s (responseHeaderTimeout)"


def _broken(error: Exception, *, body: bool) -> str:
    if _find(error, socket.gaierror) is not None:
        return "its host name cannot be resolved; check its spelling in `urls`"
    if _find(error, ConnectionRefusedError) is not None:
        return "connection refused; check that it is running, and the port"
    detail = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return f"no connection: {detail}"
    return (
        f"the connection broke {'in the middle of the body' if body else 'before an answer came'}: {detail}"
    )


def _tls(error: ssl.SSLError, where: Where) -> UpstreamError:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or error.reason
        return UpstreamUntrusted(where, f"its certificate is not trusted ({reason}); {_TRUST}")
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return UpstreamProtocolError(
            where, "no TLS on this port; if that is intended, write http:// in `urls`"
        )
    if any(alert in reason for alert in _CLIENT_ALERTS):
        return UpstreamUntrusted(where, f"it requires a client certificate ({reason}); {_CLIENT_PAIR}")
    return UpstreamUnavailable(where, f"TLS failed ({reason})", at_once=True)


def _find(error: BaseException | None, kind: type[E]) -> E | None:
    """The first of this kind among an exception and its causes: httpcore and httpx wrap them twice."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, kind):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
