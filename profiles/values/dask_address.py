"""The address of a Dask scheduler, as a profile gives it: `dask://HOST:PORT`, or `dask+tls://HOST:PORT`."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from profiles.errors import Refusal

_SCHEMES: Final = {"dask": "tcp", "dask+tls": "tls"}


def parse_dask_address(value: object) -> str:
    """The text as it is. Raises `Refusal`."""
    text = value if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname and parts.port) and not (parts.path.strip("/") or parts.query)
    except ValueError:  # a port that is no number
        usable = False
    if not usable or parts.scheme not in _SCHEMES or parts.username is not None:
        raise Refusal(
            f"{str(value)[:80]!r} is not an address of a Dask scheduler",
            "write 'dask://scheduler.example:8786', or 'dask+tls://…' where the cluster uses TLS",
        )
    return text.rstrip("/")


def dask_address(engine: str) -> str:
    """The same address in Dask's own words."""
    scheme, _, rest = engine.partition("://")
    return f"{_SCHEMES[scheme]}://{rest}"
