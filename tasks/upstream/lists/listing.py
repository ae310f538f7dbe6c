"""Catalogs, lists of tags and lists of referrers: page after page, by one code."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.manifest import parse_entries
from tasks.upstream import bodies
from tasks.upstream.endpoints import Call
from tasks.upstream.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamNotFound,
    UpstreamProtocolError,
    UpstreamUnavailable,
)
from tasks.upstream.lists.paging import (
    MAX_BYTES,
    MAX_ENTRIES,
    MAX_PAGES,
    Trail,
    first_query,
    is_perhaps_cut,
    names,
    next_link,
    query_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from tasks.upstream.endpoints import Endpoint
    from tasks.upstream.errors import Where
    from tasks.upstream.exchange import Exchanger

T = TypeVar("T")
# What a registry may say to a page size above its own; distribution: 400, PAGINATION_NUMBER_INVALID.
_NO_SUCH_SIZE = frozenset({400, 413, 414, 416, 422})
# What a registry without `last=` may say to it. Whatever may pass is not among them.
_NO_LAST = frozenset({400, 403, 404, 405, 406, 410, 414, 416, 422, 501})
_NO_CATALOG = (
    "this registry does not list its repositories; name them literally in `prefix` "
    "(prefix: library/nginx), or mirror it onDemand"
)
log = logging.getLogger("mirrorflow.upstream")
# Answers of registries that do not have the API: 404 by the specification, the others by observation.
NO_API: Final = frozenset({400, 404, 405, 406})


@dataclass(frozen=True, slots=True)
class ListKind:
    """What is listed: `noun` for people, `tail` of the URL. `sized`: pages are asked for with `n`.

    `guess`: where there is no Link, names after the last one are asked for; `always`: also after a page that
    does not look cut.
    """

    kind: str
    noun: str
    tail: str
    repository: str = ""
    sized: bool = True
    guess: bool = True
    always: bool = False

    def call(self, query: str) -> Call:
        return Call(self.kind, f"{self.tail}{query}", self.repository)


class Listing(Generic[T]):
    """One list. Called again after a failure, it goes on with the page that failed; with another endpoint it
    begins anew, so that no list is put together from two registries."""

    def __init__(
        self,
        exchanger: Exchanger,
        listed: ListKind,
        read: Callable[[bytes, Where], Mapping[str, T]],
        unsized: set[tuple[Endpoint, str]],
        remark: Callable[[str], None],
    ) -> None:
        """`read` gives the entries of a page's body by what they are told apart by. `unsized` remembers which
        endpoints refuse the page size; `remark` takes what the user should know."""
        self._exchanger, self._listed, self._read = exchanger, listed, read
        self._unsized, self._remark = unsized, remark
        self._endpoint: Endpoint | None = None
        self._call: Call | None = None
        self._guessed = False
        self._trail = Trail()
        self._found: dict[str, T] = {}
        self._bytes = 0  # of all pages so far
        self.progress = 0  # pages, of all tries
        self.is_surely_whole = True  # False: it may be cut, and what comes after it is not listed

    def __call__(self, endpoint: Endpoint) -> list[T]:
        """Each entry once, in upstream's order. Raises an `UpstreamError`, also for a list without end."""
        if endpoint is not self._endpoint:
            self._endpoint, self._guessed = endpoint, False
            self._trail, self._found, self._bytes = Trail(), {}, 0
            self.is_surely_whole = True
            self._call = self._listed.call(first_query(sized=self._sized(endpoint)))
        while self._call is not None:
            self._call = self._step(endpoint, self._call)
        return list(self._found.values())

    def _sized(self, endpoint: Endpoint) -> bool:
        return self._listed.sized and (endpoint, self._listed.kind) not in self._unsized

    def _step(self, endpoint: Endpoint, call: Call) -> Call | None:
        """Take one page; the call for the next one."""
        try:
            with self._exchanger.open(endpoint, call) as answer:
                body = bodies.read_whole(answer, bodies.MAX_LIST, f"the list of {self._listed.noun}")
                page = self._read(body, answer.where)
                link = next_link(answer.headers, answer.url, answer.where)
        except UpstreamUnavailable as error:
            if self._guessed and error.status in _NO_LAST:
                self._stand(error)
                return None
            raise
        except (UpstreamDenied, UpstreamNotFound, UpstreamProtocolError) as error:
            return self._refused(endpoint, error)
        self._bytes += len(body)
        if self._bytes > MAX_BYTES:
            reason = f"its list of {self._listed.noun} has more than {MAX_BYTES} bytes"
            raise UpstreamProtocolError(answer.where, reason)
        before = len(self._found)
        self._found.update((key, each) for key, each in page.items() if key not in self._found)
        new = len(self._found) - before
        self.progress += 1
        self._trail.visit(answer.url, new)
        if len(self._found) > MAX_ENTRIES:
            raise UpstreamProtocolError(answer.where, f"it lists more than {MAX_ENTRIES} {self._listed.noun}")
        return self._after(endpoint, [*page], new, link)

    def _after(self, endpoint: Endpoint, page: list[str], new: int, link: httpx.URL | None) -> Call | None:
        where = endpoint.where(self._listed.call(""))
        if link is not None:
            self._guessed = False
            return replace(self._listed.call(""), page=self._trail.follow(link, where))
        listed = self._listed
        if self._guessed and page and not new:  # it ignores `last=`
            self.is_surely_whole = False
        if self._trail.linked or not listed.guess or not is_perhaps_cut(page, new, always=listed.always):
            return None
        if self._trail.pages >= MAX_PAGES:
            raise UpstreamProtocolError(where, f"its list has more than {MAX_PAGES} pages")
        self._guessed = True
        return listed.call(query_after(page[-1], sized=self._sized(endpoint)))

    def _refused(self, endpoint: Endpoint, error: UpstreamError) -> Call | None:
        """What to ask instead of a page that was refused. Raises `error`, or what it means for the list."""
        if self._guessed and error.status in _NO_LAST:
            self._stand(error)
            return None
        if self._trail.pages:
            # With a status it would read as "there is no such list".
            number = self._trail.pages + 1
            raise UpstreamProtocolError(
                error.where, f"page {number} of its list of {self._listed.noun}: {error.reason}"
            ) from error
        if self._sized(endpoint) and error.status in _NO_SUCH_SIZE:
            self._unsized.add((endpoint, self._listed.kind))
            return self._listed.call("")
        raise error

    def _stand(self, error: UpstreamError) -> None:
        """The guess was wrong, and nothing says that there is more."""
        self.is_surely_whole = False
        self._remark(
            f"{error.where}: its list of {self._listed.noun} is taken as whole with {len(self._found):,}: it "
            f"names no next page, and it refuses to list what comes after the last one ({error.reason})"
        )


class Lister:
    """The lists of one upstream. Thread-safe."""

    def __init__(self, exchanger: Exchanger, remark: Callable[[str], None]) -> None:
        self._exchanger = exchanger
        self._remark = remark
        self._unsized: set[tuple[Endpoint, str]] = set()

    def _listing(self, listed: ListKind, read: Callable[[bytes, Where], Mapping[str, T]]) -> Listing[T]:
        return Listing(self._exchanger, listed, read, self._unsized, self._remark)

    def catalog(self) -> Listing[str]:
        listed = ListKind("GET catalog", "repositories", "_catalog", always=True)
        return self._listing(listed, partial(_names, "repositories"))

    def tags(self, repository: str) -> Listing[str]:
        listed = ListKind("GET tags", "tags", "tags/list", repository)
        return self._listing(listed, partial(_names, "tags"))

    def referrers(self, repository: str, digest: Digest) -> Listing[Descriptor]:
        listed = ListKind(
            "GET referrers", "referrers", f"referrers/{digest}", repository, sized=False, guess=False
        )
        return self._listing(listed, _descriptors)


def repositories(listing: Listing[str], endpoint: Endpoint) -> list[str]:
    """The catalog's names below the path of the endpoint's url, without it."""
    try:
        found = listing(endpoint)
    except (UpstreamDenied, UpstreamNotFound, UpstreamProtocolError) as error:
        if error.status is None:
            raise
        raise type(error)(error.where, f"{error.reason}; {_NO_CATALOG}", error.status) from error
    prefix = f"{endpoint.url.path_prefix}/" if endpoint.url.path_prefix else ""
    return [name.removeprefix(prefix) for name in found if name.startswith(prefix)]


def _names(key: str, body: bytes, where: Where) -> dict[str, str]:
    document = bodies.parse_object(body, f"the list of {key}", where)
    return {name: name for name in names(document.get(key), f"`{key}`", where)}


def _descriptors(body: bytes, where: Where) -> dict[str, Descriptor]:
    return {str(each.digest): each for each in parse_list(body, where)}


def parse_list(body: bytes, where: Where) -> tuple[Descriptor, ...]:
    """The descriptors of an index; one that cannot be read is logged and left out.

    Raises `UpstreamProtocolError` for what is no index.
    """
    try:
        found, problems = parse_entries(body)
    except ManifestInvalid as error:
        raise UpstreamProtocolError(where, f"its list of referrers is none: {error}") from error
    if problems:
        log.warning("%s: %d referrers are left out: %s", where, len(problems), problems[0])
    return found
