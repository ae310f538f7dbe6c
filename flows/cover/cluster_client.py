"""An HTTP client for one Kubernetes API: whom it trusts, who it is, which way it takes."""

from __future__ import annotations

import os
import ssl
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from flows.cover.kubeconfig import KubeconfigUnusable
from tasks.upstream.connection.proxies import Proxies

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from flows.cover.kubeconfig import ClusterAccess

_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)  # seconds
_SCHEMES: Final = ("http", "https", "socks5", "socks5h")


@contextmanager
def cluster_client(access: ClusterAccess) -> Iterator[httpx.Client]:
    """Redirects are not followed: a token goes to the server of the kubeconfig alone.

    Raises `KubeconfigUnusable`, `ProxyInvalid`.
    """
    url = _server(access)
    proxy = _proxy(access) if access.proxy else Proxies.read().proxy_for(url)
    with httpx.Client(
        base_url=url,
        verify=_context(access),
        auth=_Login(access),
        proxy=proxy,
        timeout=_TIMEOUT,
        trust_env=False,
        headers={"Accept": "application/json", "User-Agent": "mirrorflow"},
    ) as client:
        yield client


class _Login(httpx.Auth):
    """Also says which name the certificate of the server has (`tls-server-name`)."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._access.server_name:
            request.extensions = {**request.extensions, "sni_hostname": self._access.server_name}
        if token := self._access.bearer():
            request.headers["Authorization"] = f"Bearer {token}"
        elif self._access.user:
            yield from httpx.BasicAuth(self._access.user, self._access.password).auth_flow(request)
            return
        yield request


def _server(access: ClusterAccess) -> httpx.URL:
    try:
        return httpx.URL(access.server)
    except httpx.InvalidURL as error:
        raise KubeconfigUnusable(f"server of {access.name!r} is no URL; write https://HOST:PORT") from error


def _proxy(access: ClusterAccess) -> httpx.URL:
    try:
        url = httpx.URL(access.proxy)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in _SCHEMES or not url.host:
        raise KubeconfigUnusable(f"proxy-url of {access.name!r}: write e.g. http://proxy.example:3128")
    return url


def _context(access: ClusterAccess) -> ssl.SSLContext:
    """With an authority that one alone is trusted, as kubectl has it."""
    try:
        context = ssl.create_default_context(cadata=access.authority or None)
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigUnusable(f"certificate-authority of {access.name!r} is not PEM") from error
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.certificate:
        _load_pair(context, access)
    return context


def _load_pair(context: ssl.SSLContext, access: ClusterAccess) -> None:
    """ssl takes files only; the key is in one that nobody else can read, for as long as that takes."""
    descriptor, name = tempfile.mkstemp(prefix="mirrorflow-cover-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{access.certificate}\n{access.key}\n")
        context.load_cert_chain(name, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise KubeconfigUnusable(
            f"client-certificate and client-key of {access.name!r} are not a certificate in PEM and its key "
            "without a password"
        ) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _no_password() -> str:
    """Instead of OpenSSL asking for one on the terminal."""
    return ""
