"""What visitors may cost the registry that shows the page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from flows.reporting.page.application import MirrorPage
from flows.reporting.page.snapshot import _PROBLEMS, _Fold
from flows.reporting.tag_status import TagStatus
from registry_server.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path


class _Counting(MirrorPage):
    """Counts how many pages are made at one moment."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, None, "profile.yaml")
        self.now, self.most = 0, 0

    async def _show(self, *_: Any) -> Response:
        self.now += 1
        self.most = max(self.most, self.now)
        for _turn in range(5):  # others have their turn
            await asyncio.sleep(0)
        self.now -= 1
        return Response(b"")


def _asked(path: str) -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        "query_string": b"",
    }
    return Request(scope)


def test_many_visitors_wait_for_each_other_and_all_are_answered(tmp_path: Path) -> None:
    page = _Counting(Store.open(tmp_path / "store"))

    async def visit() -> list[Response]:
        return await asyncio.gather(*(page.answer(_asked(f"/runs?{number}")) for number in range(20)))

    assert [each.status_code for each in asyncio.run(visit())] == [200] * 20
    assert page.most == 2


def test_a_repository_with_endless_problems_does_not_hide_those_of_others() -> None:
    fold = _Fold()
    rows = [_broken("a/many", f"t{number:05}") for number in range(_PROBLEMS + 50)] + [_broken("z/one", "1")]
    assert len(list(fold.take(rows))) == len(rows)
    assert fold.repositories["a/many"].counts["problems"] == _PROBLEMS + 50
    kept = [row.repository for row in fold.problems]
    assert (kept.count("a/many"), kept.count("z/one")) == (_PROBLEMS, 1)


def _broken(repository: str, tag: str) -> TagStatus:
    return TagStatus("up", repository, tag, "", "", None, None, "it failed")
