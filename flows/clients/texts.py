"""Pieces of text that several clients need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.clients.routes import Route, UpstreamHost
    from flows.clients.setup import Mirror


def quoted(text: str) -> str:
    """A string of TOML: of what stands in hosts, names and paths, JSON escapes the same in the same way."""
    return json.dumps(text, ensure_ascii=False)


def unreachable(mirror: Mirror, host: UpstreamHost, route: Route) -> str:
    """That a client can only put something before a name, and this route needs more."""
    there, here = (name or "its names" for name in (route.there, route.here))
    return (
        f"{there} of {host.name} is {here} here, which this client cannot make of it: pull it as "
        f"{mirror.host}/{route.here or 'NAME'}, or add onDemand to an entry, and the mirror understands ?ns=."
    )
