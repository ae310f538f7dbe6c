"""Where clients get tokens: GET with Basic, and OAuth's POST of a password (distribution's token specs)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.responses import Response

from registry_server.http.access_log import USER
from registry_server.http.auth.auth_errors import unauthorised
from registry_server.http.auth.credentials import basic_challenge
from registry_server.http.errors import error_response

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry_server.http.auth.guard import Guard

_LONGEST_FORM = 64 * 1024
_NO_STORE = {"Content-Type": "application/json", "Cache-Control": "no-store"}


async def token(guard: Guard, request: Request) -> Response:
    """Raises `AccessRefused` for wrong credentials."""
    if guard.authenticator.token_issuer is None:
        return error_response(404, "UNSUPPORTED", "this registry issues no tokens")
    if request.method == "GET":
        caller = await guard.authenticate(request)
        if caller.claims is not None:
            raise unauthorised(basic_challenge(), "a token is not accepted here; send user name and password")
        return _answer(guard.issue(caller, request.query_params.getlist("scope")))
    if request.method == "POST":
        return await _by_form(guard, request)
    return error_response(405, "UNSUPPORTED", "use GET or POST", headers={"Allow": "GET, POST"})


async def _by_form(guard: Guard, request: Request) -> Response:
    """OAuth 2 (RFC 6749, 4.3). There are no refresh tokens: clients fall back to the password."""
    form = await _form(request)
    if form is None:
        return _oauth_error("invalid_request")
    if form.get("grant_type") != "password" or "username" not in form:
        return _oauth_error("unsupported_grant_type")
    caller = await guard.authenticator.sign_in(request, form["username"], form.get("password", ""))
    request.scope[USER] = caller.user
    return _answer(guard.issue(caller, form.get("scope", "").split()))


def _answer(issued: dict[str, object] | None) -> Response:
    if issued is None:
        raise unauthorised(basic_challenge())
    return Response(json.dumps(issued).encode(), headers=_NO_STORE)


def _oauth_error(code: str) -> Response:
    return Response(json.dumps({"error": code}).encode(), 400, _NO_STORE)


async def _form(request: Request) -> dict[str, str] | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            return None
    try:
        found = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return None
    return {name: values[0] for name, values in found.items()}
