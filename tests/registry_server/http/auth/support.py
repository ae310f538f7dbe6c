"""A running server with users, and short ways to ask it as one of them."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import httpx

from profiles.loader import parse_profile
from profiles.server_options import server_options
from registry_server.http.server_process import running_server
from registry_server.store.store import Store
from tests.support.registries import Registry
from tests.support.requests import RequestLog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_server.http.server_options import ServerOptions

USERS = {"alice": "alice's secret", "bob": "bob's secret", "admin": "admin's secret", "zoe": "pässwörd:☃"}


@cache
def hashed(password: str) -> str:
    """With the lowest cost: tests are not to wait for it."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def write_users(path: Path, users: dict[str, str] | None = None) -> Path:
    found = USERS if users is None else users
    path.write_text("".join(f"{user}:{hashed(password)}\n" for user, password in found.items()))
    return path


AUTH = "auth: {htpasswd: {path: htpasswd}, failDelay: 1ms}"


def options_of(folder: Path, http: str, *, rest: str = "") -> ServerOptions:
    """What a profile with this `http` section (YAML, without the port) starts the server with."""
    lines = "".join(f"  {line}\n" for line in http.splitlines())
    text = f"storage: {{rootDirectory: store}}\nhttp:\n  port: 0\n{lines}{rest}"
    return server_options(parse_profile(text, Path("profile.yaml"), folder=folder).profile)


@contextmanager
def guarded(folder: Path, http: str, *, rest: str = "", **more: Any) -> Iterator[Registry]:
    """A server as a profile with this `http` section has it, over a store in `folder`, with its log."""
    write_users(folder / "htpasswd")
    options = options_of(folder, http, rest=rest)
    store = Store.open(options.root, durability="none")
    log = RequestLog(folder / "access.log")
    given = {
        "access": options.access,
        "tls": options.tls,
        "access_log": log.path,
        "writable": options.writable,
        "limits": options.limits,
        "header_timeout": options.header_timeout,
    } | more
    with running_server(store.root, **given) as url, httpx.Client(base_url=url) as client:
        yield Registry(store, url, log, client)


def auth_of(user: str) -> httpx.Auth:
    """ "" is anonymous."""
    return httpx.BasicAuth(user, USERS[user]) if user else httpx.Auth()


def token(registry: Registry, user: str, *scopes: str) -> str:
    """The dance of a client: challenge, realm, token."""
    challenge = registry.client.get("/v2/").headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="')
    realm = challenge.split('"')[1]
    query = {"service": "mirrorflow", "scope": list(scopes), "account": user, "client_id": "test"}
    answer = httpx.get(realm, params=query, auth=auth_of(user))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.json()["token"])


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}
