"""Catalogs and tag lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.upstream import bodies
from tasks.upstream.errors import UpstreamDenied, UpstreamNotFound, UpstreamProtocolError
from tasks.upstream.exchange import Call
from tasks.upstream.paging import MAX_ENTRIES, MAX_PAGES, PAGE, names, next_last, next_link

if TYPE_CHECKING:
    import httpx

    from tasks.upstream.exchange import Endpoint, Exchanger

_NO_CATALOG = (
    "this registry does not list its repositories; name them literally in `prefix` "
    "(prefix: library/nginx), or mirror it onDemand"
)


class Lister:
    def __init__(self, exchanger: Exchanger) -> None:
        self._exchanger = exchanger

    def catalog(self, endpoint: Endpoint) -> list[str]:
        """Names below the path of the endpoint's url, without it."""
        try:
            found = self._all(endpoint, "GET catalog", "_catalog", "", "repositories")
        except (UpstreamDenied, UpstreamNotFound, UpstreamProtocolError) as error:
            if error.status is None:
                raise
            raise type(error)(error.where, f"{error.reason}; {_NO_CATALOG}", error.status) from error
        prefix = f"{endpoint.url.path_prefix}/" if endpoint.url.path_prefix else ""
        return [name.removeprefix(prefix) for name in found if name.startswith(prefix)]

    def tags(self, endpoint: Endpoint, repository: str) -> list[str]:
        return self._all(endpoint, "GET tags", "tags/list", repository, "tags")

    def _all(self, endpoint: Endpoint, kind: str, tail: str, repository: str, key: str) -> list[str]:
        """Each name once, in upstream's order."""
        found: dict[str, None] = {}
        call = Call(kind, f"{tail}?n={PAGE}", repository)
        for _ in range(MAX_PAGES):
            page, link = self._page(endpoint, call, key)
            before = len(found)
            found.update(dict.fromkeys(page))
            self._check(len(found), endpoint, call)
            further = self._next(call, page, len(found) - before, link, f"{tail}?")
            if further is None:
                return list(found)
            call = further
        raise UpstreamProtocolError(
            endpoint.where(Call(kind, tail, repository)), f"more than {MAX_PAGES} pages"
        )

    def _page(self, endpoint: Endpoint, call: Call, key: str) -> tuple[list[str], httpx.URL | None]:
        with self._exchanger.open(endpoint, call) as answer:
            document = bodies.read_object(answer, bodies.MAX_LIST, f"the list of {key}")
            current = endpoint.request(call).url
            return names(document.get(key), f"`{key}`", answer.where), next_link(
                answer.headers, current, answer.where
            )

    @staticmethod
    def _next(call: Call, page: list[str], new: int, link: httpx.URL | None, tail: str) -> Call | None:
        """A page that brings nothing new ends the list, or a Link to itself would never end."""
        if link is not None and new:
            return Call(call.kind, "", call.repository, page=link)
        query = None if link is not None else next_last(page, new, always=not call.repository)
        return Call(call.kind, tail + query, call.repository) if query else None

    @staticmethod
    def _check(number: int, endpoint: Endpoint, call: Call) -> None:
        if number > MAX_ENTRIES:
            raise UpstreamProtocolError(endpoint.where(call), f"it lists more than {MAX_ENTRIES} names")
