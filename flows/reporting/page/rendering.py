"""The templates of the page, and how numbers and times are written in them.

Everything that a template prints is escaped, unless the template itself has written it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from flows.reporting.page.lists import run_key
from registry_server.human_units import human_bytes, human_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGEST = 19  # `sha256:` and twelve hex digits


def render(template: str, values: Mapping[str, Any]) -> str:
    """A whole HTML document."""
    return _environment().get_template(template).render({"visit": None, "now": time.time(), **values})


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("flows.reporting.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "bytes": lambda size: "" if size is None else human_bytes(size),
        "ago": _ago,
        "until": lambda moment, now: "" if moment is None else f"in {human_seconds(max(0.0, moment - now))}",
        "seconds": human_seconds,
        "moment": _moment,
        "short": lambda digest: str(digest)[:_DIGEST],
        "number": lambda number: f"{number:,}",
        "query": lambda values: urlencode({key: value for key, value in values.items() if value}),
        "segment": lambda text: quote(str(text), safe="/:@"),
        "run_key": run_key,
    }
    return made


def _ago(moment: float | None, now: float) -> str:
    return "never" if moment is None else f"{human_seconds(max(0.0, now - moment))} ago"


def _moment(moment: float | None) -> str:
    return "" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M UTC}"
