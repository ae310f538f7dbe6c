"""What is asked, and what is answered (docs/on-demand.md): from errors to statuses, pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from registry_server.oci.errors import ContentError, MirrorflowError, NotFound
from registry_server.store.errors import StoreError
from tasks.on_demand.arrivals import NotArrived
from tasks.on_demand.limits.breaker import NotAskedNow
from tasks.on_demand.limits.bulkhead import UpstreamBusy
from tasks.run.errors import NotAdmitted
from tasks.upstream.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamLimited,
    UpstreamNotFound,
    UpstreamSchema1,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName, Tag

Kind = Literal["manifest", "blob", "referrers"]
_UNKNOWN = {
    "manifest": "MANIFEST_UNKNOWN",
    "blob": "BLOB_UNKNOWN",
    "referrers": "MANIFEST_UNKNOWN",
    "tags": "NAME_UNKNOWN",
}
_RETRY_LATER = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Miss:
    """What a client wants and the server's store does not have, or may have in an older version.

    Of `referrers` the reference is the subject.
    """

    kind: Kind
    repository: RepositoryName
    reference: Tag | Digest
    via: tuple[str, ...] = field(default=(), compare=False)  # the mirrors that ask, through one another

    def __str__(self) -> str:
        name = f"{self.repository}{'@' if ':' in self.reference else ':'}{self.reference}"
        return f"referrers of {name}" if self.kind == "referrers" else name


@dataclass(frozen=True, slots=True)
class TagPage:
    """The names of tags that a client wants: at most `limit` behind `last`, in ASCII order."""

    repository: RepositoryName
    last: str = ""
    limit: int = 10_001
    via: tuple[str, ...] = field(default=(), compare=False)
    kind: Literal["tags"] = "tags"

    def __str__(self) -> str:
        return f"tags of {self.repository}"


class TooManyPushes(MirrorflowError):
    """More tags are being synced than we take on: the sender may try again."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Push:
    """A tag of a repository, as the registry that it was pushed to calls it.

    `registry`: the entry of the profile that the sender says it is, "" for any. `on_hub`: on Docker Hub.
    """

    repository: RepositoryName
    tag: Tag
    registry: str = ""
    on_hub: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A repository as another registry calls it; that is an `entry` of the profile, or a host."""

    repository: RepositoryName
    namespace: str = ""
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Local:
    """The store's own answer is the right one, for `fresh_for` seconds; `warning`: as far as we know."""

    fresh_for: float = 0.0
    warning: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"outcome": "local", "freshFor": self.fresh_for, "warning": self.warning}


@dataclass(frozen=True, slots=True)
class TheManifest:
    """This manifest is in the repository now, and is what the reference names for `fresh_for` seconds."""

    digest: Digest
    fresh_for: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {"outcome": "manifest", "digest": self.digest, "freshFor": self.fresh_for}


@dataclass(frozen=True, slots=True)
class TheBlob:
    """The blob is here, or arriving in its incoming file; the repository may have it. `size` in bytes."""

    size: int

    def to_json(self) -> dict[str, Any]:
        return {"outcome": "blob", "size": self.size}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the client does not get it; `cause` in the words of whoever failed."""

    status: int
    code: str
    message: str
    cause: str = ""
    retry_after: float | None = None

    def to_json(self) -> dict[str, Any]:
        detail = {"cause": self.cause} if self.cause else None
        document = {"outcome": "refused", "status": self.status, "code": self.code, "message": self.message}
        return {**document, "detail": detail, "retryAfter": self.retry_after}


@dataclass(frozen=True, slots=True)
class TheRepository:
    """Where the repository of another registry is here; good for `fresh_for` seconds."""

    repository: RepositoryName
    fresh_for: float = 60.0

    def to_json(self) -> dict[str, Any]:
        return {"outcome": "repository", "repository": self.repository, "freshFor": self.fresh_for}


@dataclass(frozen=True, slots=True)
class TheTags:
    """The tags of one page; `warning`: as far as we know."""

    tags: tuple[str, ...]
    warning: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"outcome": "tags", "tags": list(self.tags), "warning": self.warning}


Question = Miss | TagPage | Place
Answer = Local | TheTags | TheManifest | TheBlob | TheRepository | Refusal


def not_taken(miss: Miss, reasons: tuple[str, ...]) -> Refusal:
    """No rule takes it, although one takes other things of the repository."""
    return Refusal(404, _UNKNOWN[miss.kind], f"{miss} is not mirrored", "; ".join(reasons))


def still_busy(miss: Miss | TagPage, seconds: float) -> Refusal:
    return Refusal(
        504,
        "UNKNOWN",
        f"{miss} has not arrived yet",
        f"the upstream took longer than {seconds:g} s",
        _RETRY_LATER,
    )


def refusal(miss: Miss | TagPage, error: BaseException) -> Refusal:
    """404 only for what is not there or not allowed; the cause is in the detail."""
    status, code, message, wait = _kind_of(miss, error)
    # The words of the store may name paths: they are for the log.
    internal = status == 500 or isinstance(error, StoreError)
    return Refusal(status, code, message, type(error).__name__ if internal else str(error), wait)


def _kind_of(miss: Miss | TagPage, error: BaseException) -> tuple[int, str, str, float | None]:
    found: tuple[int, str, str, float | None] = (500, "UNKNOWN", f"{miss} cannot be fetched", None)
    match error:
        case UpstreamNotFound() | UpstreamDenied() | NotFound() | UpstreamSchema1():
            found = (404, _UNKNOWN[miss.kind], f"{miss} not found upstream", None)
        case NotAdmitted():
            # Most clients print the message and not the detail.
            found = (403, "DENIED", str(error), None)
        case UpstreamLimited():
            wait = error.retry_after or _RETRY_LATER
            found = (503, "TOOMANYREQUESTS", f"the upstream limits requests: {miss}", wait)
        case NotArrived():
            found = (503, "UNKNOWN", f"{miss} has not arrived; try again", _RETRY_LATER)
        case NotAskedNow():
            found = (503, "UNKNOWN", f"the upstream does not respond: {miss}", error.seconds)
        case UpstreamBusy():
            found = (503, "TOOMANYREQUESTS", f"too many requests wait for the upstream: {miss}", _RETRY_LATER)
        case UpstreamUnavailable():
            found = (_of_unavailable(error), "UNKNOWN", f"the upstream failed: {miss}", _RETRY_LATER)
        case UpstreamError() | ContentError():
            found = (502, "UNKNOWN", f"the upstream returned an invalid response: {miss}", None)
        case StoreError():
            found = (503, "UNKNOWN", f"{miss} cannot be stored; see the log", _RETRY_LATER)
    return found


def _of_unavailable(error: UpstreamUnavailable) -> int:
    if error.status is not None:
        return 502
    # The border of the client raises it from what httpx or the socket raised.
    names = {kind.__name__ for kind in type(error.__cause__).__mro__}
    return 504 if names & {"TimeoutException", "TimeoutError"} else 503
