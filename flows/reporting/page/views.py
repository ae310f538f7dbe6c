"""What each path of the page shows: the name of a template and its values.

They read files, so each runs in a thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from flows.orchestration.server_record import read_record
from flows.reporting.mirror_status import tags_of
from flows.reporting.page import lists
from flows.reporting.page.image import image_view, tag_rows
from flows.reporting.page.overview import overview
from flows.reporting.page.snapshot import sees_texts
from flows.settings import prefect_home
from registry_server.http.auth.credentials import origin
from registry_server.oci.errors import NotFound
from registry_server.oci.reference import RepositoryName, parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from flows.reporting.page.snapshot import Snapshot
    from flows.reporting.tag_status import TagStatus
    from registry_server.store.store import Store

_SHOWN_PROBLEMS: Final = 10

Shown = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Visit:
    """A request to the page: who asks, what he may see, and the newest snapshot."""

    request: Request
    store: Store
    snapshot: Snapshot
    may_see: Callable[[str], bool]
    user: str

    def asked(self, key: str) -> str:
        """A parameter of the query, "" where it is missing; longer ones mean nothing."""
        return self.request.query_params.get(key, "")[:400]

    @cached_property
    def _sees_texts(self) -> bool:
        return sees_texts(self.snapshot, self.may_see)

    def told(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of the report of a run he may see."""
        return lists.report_for(report, self.may_see, texts=self._sees_texts)

    @property
    def host(self) -> str:
        """How the visitor reaches this registry: what stands before a repository in a pull command."""
        external = self.snapshot.loaded.profile.http.external_url
        address, port = self.request.scope.get("server") or ("localhost", 0)
        asked = origin("http", self.request.headers.get("Host"), f"{address}:{port}")
        return (external or asked).partition("://")[2]


def view_at(path: str) -> Callable[[Visit], Shown]:
    """Raises `NotFound` for a path that shows nothing."""
    for pattern, show in _VIEWS:
        if (found := pattern.fullmatch(path)) is not None:
            return partial(_call, show, tuple(unquote(each) for each in found.groups()))
    raise NotFound(f"there is no page at {path[:200]}")


def _call(show: Callable[..., Shown], parts: tuple[str, ...], visit: Visit) -> Shown:
    return show(visit, *parts)


def _overview(visit: Visit) -> Shown:
    return "overview", {"view": overview(visit.snapshot, visit.may_see, _SHOWN_PROBLEMS)}


def _problems(visit: Visit) -> Shown:
    visible = [each for each in visit.snapshot.problems if visit.may_see(each.repository)]
    return "problems", {"cut": lists.problems(visible, visit.asked("after"))}


def _repositories(visit: Visit) -> Shown:
    visible = [each for name, each in visit.snapshot.repositories.items() if visit.may_see(name)]
    cut = lists.repositories(visible, visit.asked("q"), visit.asked("after"))
    return "repositories", {"cut": cut, "words": visit.asked("q")}


def _repository(visit: Visit, text: str) -> Shown:
    name = _visible(visit, text)
    rows = _statuses(visit, name)
    if not rows and not visit.store.repository(name).exists:
        raise NotFound(f"there is no repository {name} in this store")
    cut = lists.tags(rows, visit.asked("q"), visit.asked("after"))
    shown = tag_rows(visit.store.repository(name), cut.rows)
    return "repository", {"name": name, "cut": cut, "rows": shown, "words": visit.asked("q")}


def _image(visit: Visit, text: str, _mark: str, reference: str) -> Shown:
    name = _visible(visit, text)
    view = image_view(visit.store.repository(name), parse_reference(reference))
    rows = _statuses(visit, name) if view.record else ()
    return "image", {"view": view, "row": next((row for row in rows if row.reference == reference), None)}


def _runs(visit: Visit) -> Shown:
    registry = visit.asked("registry")
    reports = [visit.told(each) for each in visit.store.reports.load_all()]
    cut = lists.runs(reports, registry, visit.asked("after"))
    return "runs", {"cut": cut, "registry": registry, "names": visit.snapshot.loaded.profile.entry_names()}


def _run(visit: Visit, key: str) -> Shown:
    reports = visit.store.reports.load_all()
    found = next((each for each in reports if lists.run_key(each) == key), None)
    if found is None:
        raise NotFound("there is no report of this run; of each registry entry the newest 200 are kept")
    report = visit.told(found)
    images, following, total = lists.images_of(report, _number(visit.asked("after")))
    return "run", {
        "report": report,
        "images": images,
        "following": following,
        "total": total,
        "prefect": _prefect_url(visit.snapshot),
    }


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0


def _prefect_url(snapshot: Snapshot) -> str:
    """The UI of the Prefect server that `up` runs on this host; "" when none is known."""
    record = read_record(prefect_home(snapshot.loaded.profile.storage))
    return record.url.removesuffix("/api") if record is not None else ""


def _statuses(visit: Visit, name: RepositoryName) -> list[TagStatus]:
    return tags_of(visit.snapshot.loaded.profile, visit.store, name, visit.snapshot.taken)


def _visible(visit: Visit, text: str) -> RepositoryName:
    """Raises `InvalidName`, and `NotFound` for what the visitor may not read, as if it were not there."""
    name = RepositoryName(text)
    if not visit.may_see(name):
        raise NotFound(f"there is no repository {name} in this store")
    return name


_VIEWS: Final[tuple[tuple[re.Pattern[str], Callable[..., Shown]], ...]] = (
    (re.compile(r"/"), _overview),
    (re.compile(r"/problems"), _problems),
    (re.compile(r"/repositories"), _repositories),
    (re.compile(r"/repository/([^:@]+)"), _repository),
    (re.compile(r"/image/([^:@]+)([:@])(.+)"), _image),
    (re.compile(r"/runs"), _runs),
    (re.compile(r"/run/(.+)"), _run),
)
