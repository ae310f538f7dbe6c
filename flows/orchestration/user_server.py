"""A Prefect server of the user's own (PREFECT_API_URL): whether it can be used, and what its errors mean.

Imports no Prefect: `up` asks before it starts anything.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import httpx

from flows.orchestration.prefect_port import PrefectServerError
from tasks.upstream.connection.proxies import Proxies
from tasks.upstream.errors import ProxyInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXAMPLE: Final = "http://prefect.example:4200/api"
_TIMEOUT: Final = 5.0  # seconds


class PrefectServerUnusable(PrefectServerError):
    """The server that PREFECT_API_URL names cannot be used as it is."""


def require_server(api_url: str) -> None:
    """Raises PrefectServerUnusable when no Prefect API answers at `api_url`.

    A login or a certificate that the server asks for is left to Prefect's client, which knows of both.
    """
    shown = shown_url(api_url)
    try:
        answer = _health(api_url)
    except _Unreachable as error:
        raise PrefectServerUnusable(
            f"the Prefect server at {shown} (PREFECT_API_URL) cannot be reached: {error}; start it, correct "
            "the address, or unset PREFECT_API_URL: then `up` runs its own, and `sync` runs without one"
        ) from None
    if answer is None or _is_api(answer) or answer.status_code in (401, 403):
        return
    raise PrefectServerUnusable(_no_api(api_url, shown, answer))


def shown_url(api_url: str) -> str:
    """The address for a message. Raises PrefectServerUnusable for one that cannot be asked."""
    try:
        url = httpx.URL(api_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise PrefectServerUnusable(
            "PREFECT_API_URL is not an address of a Prefect API: write http:// or https://, host, port and "
            f"/api, e.g. {_EXAMPLE}"
        )
    return str(url.copy_with(userinfo=b"", query=None))


def _no_api(api_url: str, shown: str, answer: httpx.Response) -> str:
    try:
        below = None if api_url.rstrip("/").endswith("/api") else _health(f"{api_url.rstrip('/')}/api")
    except _Unreachable:
        below = None
    if below is not None and _is_api(below):
        return f"PREFECT_API_URL is {shown}, where the Prefect UI is: write {shown.rstrip('/')}/api, its API"
    return (
        f"no Prefect API answers at {shown} (PREFECT_API_URL): {answer.status_code} for /health; write the "
        f"address of a Prefect server with /api at its end, e.g. {_EXAMPLE}"
    )


def _is_api(answer: httpx.Response) -> bool:
    """The UI answers every path with its page."""
    return answer.status_code == 200 and "json" in answer.headers.get("content-type", "")


def database_of(api_url: str) -> str | None:
    """The driver of the server's database (`sqlite+aiosqlite`, `postgresql+asyncpg`).

    "" where the server does not tell: it hides the address of its database, and the driver is a setting of
    its own. None where it has no such route (Prefect Cloud), asks for a login, or does not answer.
    """
    address = f"{api_url.rstrip('/')}/admin/settings"
    try:
        proxy = Proxies.read().proxy_for(httpx.URL(address))
        with httpx.Client(trust_env=False, proxy=proxy, timeout=_TIMEOUT) as client:
            answer = client.get(address)
        settings = answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, ProxyInvalid, ValueError):
        return None
    if not isinstance(settings, dict):
        return None
    return str(settings.get("server", {}).get("database", {}).get("driver") or "")


class _Unreachable(Exception):
    pass


def _health(api_url: str) -> httpx.Response | None:
    """What the API says of itself; None where only Prefect's client has the certificates to ask."""
    address = f"{api_url.rstrip('/')}/health"
    try:
        proxy = Proxies.read().proxy_for(httpx.URL(address))
        with httpx.Client(trust_env=False, proxy=proxy, timeout=_TIMEOUT) as client:
            return client.get(address)
    except (httpx.HTTPError, ProxyInvalid) as error:
        if _about_certificates(error):
            return None
        raise _Unreachable(str(error) or type(error).__name__) from None


def _about_certificates(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def named_prefect_errors(api_url: str) -> Iterator[None]:
    """What Prefect's client raises becomes one sentence: PrefectServerUnusable."""
    try:
        yield
    except Exception as error:
        if (sentence := describe_prefect_error(error, shown_url(api_url))) is None:
            raise
        raise PrefectServerUnusable(sentence) from error


def describe_prefect_error(error: Exception, server: str) -> str | None:
    """What an error of Prefect's client says of the server; None for any other error."""
    error = getattr(error, "http_exc", error)  # Prefect's ObjectNotFound and its likes wrap one of httpx
    if isinstance(error, httpx.HTTPStatusError):
        return _describe_status(error.response, server)
    if isinstance(error, httpx.TransportError) or "Failed to reach API" in str(error):
        said = str(error).strip() or type(error).__name__
        return f"the Prefect server at {server} does not answer any more ({said}); look whether it runs"
    return None


def _describe_status(answer: httpx.Response, server: str) -> str:
    """The text of the answer is not quoted: it repeats what was sent, and job variables may be secrets."""
    if answer.status_code in (401, 403):
        return (
            f"the Prefect server at {server} refuses the login ({answer.status_code}): set "
            "PREFECT_API_AUTH_STRING (user:password), or PREFECT_API_KEY for Prefect Cloud"
        )
    hint = "; do the jobVariables fit the template of the work pool?" if answer.status_code == 409 else ""
    return (
        f"the Prefect server at {server} answered {answer.status_code} to {answer.request.method} "
        f"{answer.request.url.path}{hint}; look into its log, and whether it is Prefect 3.8"
    )
