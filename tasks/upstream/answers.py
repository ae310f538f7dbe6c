"""What an HTTP answer that is not the wanted one means, and how long it asks us to wait."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

from tasks.upstream.budget import read_budget
from tasks.upstream.errors import (
    UpstreamDenied,
    UpstreamLimited,
    UpstreamNotFound,
    UpstreamProtocolError,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from tasks.upstream.errors import UpstreamError, Where

_SHOWN = 300  # characters of their message
# 502 to 504 come from a proxy before a registry that restarts; a 500 is a bug that a second may not mend.
_AT_ONCE = frozenset({408, 502, 503, 504})
# `retry-after: 880.092µs, allowed: 44000/minute` (GHCR); a Go duration.
_GHCR = re.compile(r"retry-after:\s*((?:\d+(?:\.\d+)?(?:ns|us|µs|μs|ms|s|m|h))+)", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|μs|ms|s|m|h)", re.IGNORECASE)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Reply:
    """`body` only of token services and of errors. `secrets` of the request are not repeated from it."""

    status: int
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    body: bytes = field(default=b"", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


def failure(where: Where, reply: Reply, *, speaker: str = "") -> UpstreamError:
    """The error that an answer other than 2xx and 3xx is."""
    found = _failure(where, reply, speaker)
    found.code = error_code(reply)
    return found


def _failure(where: Where, reply: Reply, speaker: str) -> UpstreamError:
    status = reply.status
    said = message(reply)
    reason = f"{f'{speaker}: ' if speaker else ''}{_phrase(status)}{f': {said}' if said else ''}"
    if status in (401, 403):
        return UpstreamDenied(where, reason, status)
    if status == 404:
        return UpstreamNotFound(where, reason, status)
    wait = asked_to_wait(reply)
    if status == 429:
        at_once = not is_pull_limit(reply)
        return UpstreamLimited(where, reason, status, at_once=at_once, retry_after=wait)
    if status >= 500 or status == 408:
        return UpstreamUnavailable(where, reason, status, at_once=status in _AT_ONCE, retry_after=wait)
    return UpstreamProtocolError(where, reason, status)


def is_pull_limit(reply: Reply) -> bool:
    """Whether a 429 is about pulls (Docker Hub), and not about requests."""
    budget = read_budget(reply.headers)
    return budget is not None and budget.remaining == 0


def asked_to_wait(reply: Reply) -> float | None:
    """Seconds that a 408, 429 or 5xx asks for (RFC 9110, 10.2.3); GHCR has them in the text of a 429."""
    if reply.status not in (408, 429) and reply.status < 500:
        return None
    text = reply.body.decode(errors="replace") if reply.status == 429 else ""
    return retry_after(reply.headers, text)


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def message(reply: Reply) -> str:
    """Their own words, in one line without control characters: the OCI error body, or plain text."""
    media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if reply.headers.get("Content-Encoding", "identity") != "identity" or "html" in media_type:
        return ""
    text = reply.body.decode(errors="replace")
    said = _errors(text) or ("" if text.lstrip().startswith(("{", "<")) else text)
    for secret in reply.secrets:
        said = said.replace(secret, "***")
    line = " ".join("".join(each if each.isprintable() else " " for each in said).split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def error_code(reply: Reply) -> str:
    """The first code of an OCI error body; "" where there is none."""
    try:
        errors = json.loads(reply.body or b"{}")["errors"]
        code = errors[0]["code"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return code if isinstance(code, str) else ""


def _errors(text: str) -> str:
    """`{"errors": [{"code", "message"}]}`, and the ways of token services and of hub.docker.com."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    errors = document.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        found = [errors[0].get(key) for key in ("code", "message")]
        return ": ".join(each for each in found if isinstance(each, str) and each)
    found = [document.get(key) for key in ("details", "detail", "message", "error_description", "error")]
    return next((each for each in found if isinstance(each, str) and each), "")


def retry_after(headers: httpx.Headers, text: str = "", *, now: datetime | None = None) -> float | None:
    """Seconds, never negative; None when nothing usable is said. RFC 9110 10.2.3: seconds or a date."""
    header = headers.get("Retry-After", "").strip()
    if header:
        found = _number(header)
        return found if found is not None else _until(header, now or datetime.now(UTC))
    if match := _GHCR.search(text):
        return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(match[1]))
    return None


def _number(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _until(text: str, now: datetime) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:  # "-0000": UTC without knowing where one is
        date = date.replace(tzinfo=UTC)
    return max((date - now).total_seconds(), 0.0)
