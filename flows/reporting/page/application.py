"""The page: what the registry server answers outside of `/v2/`, for people with a browser.

It reads the store and the profile, and changes nothing. Whoever may not pull from a repository does not see
it here either. Names and texts of others are data in the templates, never markup.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from starlette.responses import Response

from registry_server.http.auth.auth_errors import unauthorised
from registry_server.http.auth.credentials import basic_challenge
from registry_server.http.extension import ExtensionName
from registry_server.oci.errors import InvalidName, MirrorflowError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.registry import Collector
    from starlette.requests import Request

    from flows.reporting.page.snapshot import Snapshots
    from flows.reporting.page.views import Shown, Visit
    from profiles.model.profile import Profile
    from registry_server.http.auth.guard import Guard
    from registry_server.http.server_options import ServerOptions
    from registry_server.store.store import Store

_ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
# A page of a large repository takes seconds of CPU. Visitors wait for each other, so that pulls go on.
_AT_ONCE: Final = 2
_UNREADABLE: Final = "the profile or the store cannot be read; the log of the server says why"
_log = logging.getLogger("mirrorflow.page")
_HEADERS: Final = {
    # Nothing from elsewhere, and nothing inline: what slips through as markup can do nothing.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class MirrorPage:
    """What `serve` and `up` add to the registry server. `profile` is the path of the profile."""

    kind: ClassVar[str] = "page"

    def __init__(self, store: Store, guard: Guard | None, profile: str) -> None:
        self._store, self._guard, self._profile = store, guard, Path(profile)
        self._snapshots: Snapshots | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def collectors(self) -> Iterable[Collector]:
        """The state of the registry entries for `/metrics`."""
        from flows.reporting.page.metrics import MirrorCollector

        return (MirrorCollector(self.snapshots),)

    def snapshots(self) -> Snapshots:
        """Made when somebody looks: a server that is only pulled from does without what they need."""
        if self._snapshots is None:
            from flows.reporting.page.snapshot import Snapshots

            self._snapshots = Snapshots(self._profile, self._store)
        return self._snapshots

    async def answer(self, request: Request) -> Response:
        """A page, or one that says what is wrong. Raises `AccessRefused`."""
        path = request.scope["path"]
        if request.method not in ("GET", "HEAD"):
            return _html("message", 405, title="Not supported", message="this page is for reading only")
        if path.startswith("/assets/"):
            return _asset(path.removeprefix("/assets/"))
        may_see, user = await self._sight(request)
        try:
            async with self._turns:
                return await self._show(request, may_see, user)
        except (NotFound, InvalidName) as error:
            return _html("message", 404, title="Not found", message=str(error))
        except (MirrorflowError, OSError) as error:
            _log.error("the page cannot be shown: %s", error)  # it may name paths, which are not for visitors
            return _html("message", 503, title="The mirror cannot be shown", message=_UNREADABLE)

    async def _sight(self, request: Request) -> tuple[Callable[[str], bool], str]:
        """What the visitor may see, and who he is. Browsers ask for a password after 401 with Basic."""
        if self._guard is None:
            return (lambda _name: True), ""
        guard = self._guard
        caller = await guard.authenticate(request)
        if guard.must_sign_in(caller):
            raise unauthorised(basic_challenge())
        return (lambda name: "read" in guard.rights(caller, name)), caller.user

    async def _show(self, request: Request, may_see: Callable[[str], bool], user: str) -> Response:
        from flows.reporting.page.views import Visit, view_at

        snapshot = await (await asyncio.to_thread(self.snapshots)).get()
        visit = Visit(request, self._store, snapshot, may_see, user)
        return await asyncio.to_thread(_shown, view_at(request.scope["path"]), visit)


def with_page(options: ServerOptions, profile: Profile, path: Path) -> ServerOptions:
    """The options of a server that shows the page of the profile at `path`, unless that turns it off."""
    if not profile.ui.enable:
        return options
    name = ExtensionName(f"{__name__}:{MirrorPage.__name__}", str(path.absolute()))
    return replace(options, extension=name)


def _shown(view: Callable[[Visit], Shown], visit: Visit) -> Response:
    template, values = view(visit)
    return _html(template, visit=visit, **values)


def _asset(name: str) -> Response:
    if name not in _ASSETS:
        return _html("message", 404, title="Not found", message="there is no such file")
    content = resources.files("flows.reporting.page").joinpath("static", name).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers=_HEADERS | {"Cache-Control": "max-age=300"})


def _html(template: str, status: int = 200, **values: Any) -> Response:
    from flows.reporting.page.rendering import render

    body = render(f"{template}.html", values)
    return Response(body, status, media_type="text/html", headers=dict(_HEADERS))
