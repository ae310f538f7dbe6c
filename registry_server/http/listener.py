"""The listening socket and the certificates: checked before a worker starts, so that errors are clear."""

from __future__ import annotations

import errno
import ipaddress
import resource
import socket
import ssl
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from registry_server.http.server_options import Tls

BACKLOG = 4096  # connections that wait to be taken by a worker
_CONNECTIONS = 16_384  # that a worker holds
_SPARE_FILES = 256  # for what is not a connection
_HIGHEST_PORT = 65535


class CannotListen(MirrorflowError):
    """The address or port is not to be had; the message names both."""


class TlsUnusable(MirrorflowError):
    """A certificate, key or CA file that cannot be used; the message names the file."""


def check_tls(tls: Tls) -> None:
    """Raises `TlsUnusable`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:  # ssl.SSLError is one
        pair = f"the certificate {tls.cert} with the key {tls.key}"
        raise TlsUnusable(f"cannot use {pair}: {_why(error)}") from error
    if tls.client_ca is None:
        return
    try:
        context.load_verify_locations(tls.client_ca)
    except OSError as error:
        raise TlsUnusable(f"cannot use the client CA {tls.client_ca}: {_why(error)}") from error


def is_local(address: str) -> bool:
    """Whether only programs of this machine reach the address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any free one. Raises `CannotListen`.

    Bound here and handed to the workers: a server that let each worker bind with SO_REUSEPORT would share a
    port that is in use without a word, and give half of the requests to a stranger.
    """
    where = f"{address} port {port}"
    if not 0 <= port <= _HIGHEST_PORT:
        raise CannotListen(f"cannot listen on {where}: ports are numbers from 0 to {_HIGHEST_PORT}")
    try:
        family, *_, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(target[:2], family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise CannotListen(f"cannot listen on {where}: {address!r} is not an address of a host") from error
    except OSError as error:
        raise CannotListen(f"cannot listen on {where}: {_advice(error)}") from error


def most_connections() -> int:
    """How many connections a worker may hold: those that wait for an upstream must not shut out the others.

    Each one may need a file, and a call of the receiver, beside itself.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # the store raises the soft limit to this one
    if allowed == resource.RLIM_INFINITY:
        return _CONNECTIONS
    return max(1, min(_CONNECTIONS, (allowed - _SPARE_FILES) // 3))


def url_of(listener: socket.socket, *, tls: bool) -> str:
    """E.g. `http://127.0.0.1:5000`."""
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program listens there; stop it or choose another port"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address; 0.0.0.0 means all its addresses"
        case errno.EACCES:
            return "not permitted; ports below 1024 need privileges"
        case _:
            return error.strerror or str(error)


def _why(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)
