"""Serving a store with granian: quiet, on a socket of our own, and gone when its parent is gone."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from granian._granian import SocketHolder
from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.mp import MPServer

from registry_server.append_log import AppendLog
from registry_server.http.access_log import AccessLog, to_all
from registry_server.http.app import create_app
from registry_server.http.audit_log import AuditLog
from registry_server.http.forwarded import TrustedProxies
from registry_server.http.listener import BACKLOG, check_tls, is_local, listen, most_connections, url_of
from registry_server.http.metrics.multiprocess_folder import shared_folder
from registry_server.http.readiness import Readiness
from registry_server.http.service_endpoints import service_endpoints
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import StoreError
from registry_server.store.store import Store

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from starlette.types import ASGIApp

    from registry_server.http.access_log import OnRequest
    from registry_server.http.auth.guard import Guard
    from registry_server.http.pull_through.on_miss import OnMiss
    from registry_server.http.server_options import ServerOptions, Tls

_holder: Any = SocketHolder  # its stub leaves the arguments out: file descriptor, unix socket?, backlog
_PR_SET_PDEATHSIG = 1
# Seconds for transfers that run when the server is told to end.
_GRACE = 5


def serve(options: ServerOptions, *, on_listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; `on_listening` is given the URL once clients can connect.

    Installs signal handlers, so it belongs into the main thread of a process of its own.
    Raises `CannotListen`, `TlsUnusable` and the store's errors before it serves anything.
    """
    _check(options)
    _warn_if_open(options)
    with shared_folder(), listen(options.address, options.port) as listener:
        server = _Server(listener, options)
        if on_listening is not None:
            server.on_startup(partial(on_listening, url_of(listener, tls=options.tls is not None)))
        server.serve(target_loader=partial(_load, options, os.getpid()), wrap_loader=False)


def end_with_standard_input() -> None:
    """End this process when its standard input is closed: a parent that dies cannot leave it behind."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="end-with-standard-input", daemon=True).start()


class _Server(MPServer):
    """granian with a listening socket that is bound already."""

    def __init__(self, listener: socket.socket, options: ServerOptions) -> None:
        # From Python 3.14 on the default is another, which does not hand on the socket.
        multiprocessing.set_start_method("fork", force=True)
        host, port = listener.getsockname()[:2]
        super().__init__(
            "registry_server",
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            workers=options.workers,
            backlog=BACKLOG,
            backpressure=most_connections(),
            websockets=False,
            http1_settings=HTTP1Settings(header_read_timeout=round(options.header_timeout * 1000)),
            log_enabled=False,
            respawn_failed_workers=True,
            workers_kill_timeout=_GRACE,
            **_tls_arguments(options.tls),
        )
        self._listener = listener

    def signal_handler_interrupt(self, *_arguments: Any, **_named: Any) -> None:
        if os.getpid() != self.pid:
            # A worker that has not set its own handlers yet; it would take no notice and be waited for.
            os._exit(0)
        self.interrupt_signal = True
        self.main_loop_interrupt.set()

    def _init_shared_socket(self) -> None:
        shared: Any = self  # granian declares these attributes as None
        shared._sfd = self._listener.fileno()  # noqa: SLF001 - see above
        shared._shd = _holder(shared._sfd, False, self.backlog)  # noqa: SLF001
        shared._ssp = shared._sso = None  # noqa: SLF001


def _tls_arguments(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {
        "ssl_cert": tls.cert,
        "ssl_key": tls.key,
        "ssl_ca": tls.client_ca,
        "ssl_client_verify": tls.client_ca is not None,
        "ssl_protocol_min": SSLProtocols.tls12,
    }


def _app(options: ServerOptions) -> ASGIApp:
    # Late: prometheus-client decides at its import whether it shares a folder with other workers.
    from registry_server.http.metrics.prometheus import Metrics

    # A worker that is replaced while the volume is unmounted must not begin a new store below it.
    store = _open(options, create=False)
    metrics = Metrics({"/": options.root, **options.subpaths}, store)
    reports: list[OnRequest] = [metrics.observe]
    if options.access_log:
        reports.append(AccessLog.open(options.access_log))
    if options.audit_log:
        reports.append(AuditLog(AppendLog(options.audit_log), pulls=options.audit_pulls))
    guard = _guard(options, store)
    extension = options.extension.load(store, guard) if options.extension else None
    metrics.add(extension.collectors() if extension else ())
    readiness = Readiness(store.require_present, is_quick=store.is_local)
    endpoints = service_endpoints(readiness, guard, metrics)
    return create_app(
        store, on_request=to_all(*reports), guard=guard, endpoints=endpoints, writable=options.writable,
        limits=options.limits, on_miss=_on_miss(options, store), extension=extension, readiness=readiness,
        proxies=_proxies(options),
    )  # fmt: skip


def _open(options: ServerOptions, *, create: bool = True) -> Store:
    return Store.open(
        options.root,
        create=create,
        subpaths=options.subpaths,
        shared_file_system=options.shared_file_system,
        remote=options.remote,
    )


def _check(options: ServerOptions) -> None:
    """For its errors: each worker opens its own."""
    if options.remote is None:
        _check_here(options)
        return
    # In a child: the client of object storage has threads, which the workers that are forked would lack.
    fork = multiprocessing.get_context("fork")
    told, tell = fork.Pipe(duplex=False)
    child = fork.Process(target=_check_and_tell, args=(options, tell))
    child.start()
    tell.close()
    try:
        found = told.recv()
    except EOFError:
        found = "the store could not be opened; see standard error"
    child.join()
    if found:
        raise StoreError(found)


def _check_and_tell(options: ServerOptions, tell: Connection) -> None:
    try:
        _check_here(options)
    except (MirrorflowError, OSError) as error:
        tell.send(str(error))
    else:
        tell.send("")


def _check_here(options: ServerOptions) -> None:
    store = _open(options)
    if options.writable:
        store.require_shareable()
    guard = _guard(options, store)
    _on_miss(options, store)
    if options.extension:
        options.extension.load(store, guard)
    _proxies(options)
    if options.access_log:
        AccessLog.open(options.access_log)
    if options.audit_log:
        AppendLog(options.audit_log)
    if options.tls:
        check_tls(options.tls)


def _warn_if_open(options: ServerOptions) -> None:
    """Loudly, at every start: what other machines reach without TLS or without signing in."""
    if is_local(options.address):
        return
    lacking = [] if options.tls else ["TLS"]
    lacking += [] if options.signs_in else ["authentication"]
    if lacking:
        what = " and without ".join(lacking)
        sys.stderr.write(f"warning: other machines reach {options.address} without {what}\n")


def _guard(options: ServerOptions, store: Store) -> Guard | None:
    if options.access is None:
        return None
    # Late: bcrypt and cryptography are for those only who control access.
    from registry_server.http.auth.guard import Guard

    return Guard(options.access, store)


def _on_miss(options: ServerOptions, store: Store) -> OnMiss | None:
    if options.on_miss is None:
        return None
    from registry_server.http.pull_through.on_miss import OnMiss
    from registry_server.http.pull_through.receivers import ReceiverClient
    from registry_server.http.pull_through.webhook_client import OnMissOptions

    given = options.on_miss
    call = given if isinstance(given, OnMissOptions) else OnMissOptions.read(given)
    return OnMiss(ReceiverClient.of(call, store.receivers))


def _proxies(options: ServerOptions) -> TrustedProxies | None:
    if not options.trusted_proxies:
        return None
    return TrustedProxies(options.trusted_proxies, options.accel_redirect)


def _load(options: ServerOptions, parent: int) -> ASGIApp:
    """Runs in each worker, before it takes requests."""
    _end_with_parent(parent)
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.WARNING)
    try:
        return _app(options)
    except (MirrorflowError, OSError) as error:
        # It could be opened when the server started. granian gives up after the second try.
        sys.exit(f"error: {error}")


def _end_with_parent(parent: int) -> None:
    """A main process that is killed with -9 takes its workers along (Linux; elsewhere they stay)."""
    if sys.platform != "linux":
        return
    # Not SIGTERM: until granian has set its handlers, this process has those of its parent.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGKILL)
