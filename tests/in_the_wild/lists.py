"""Lists of tags, catalogs and referrers that end too early, never, or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.in_the_wild.rows import Row
from tests.support_behaviours import json_answer

if TYPE_CHECKING:
    from tests.support_misbehaving import Misbehaving

APP: Final = "library/app"
TAGS: Final = f"/v2/{APP}/tags/list"


def _two_pages(upstream: Misbehaving) -> None:
    for tag in ("1", "2"):
        upstream.add_image(APP, tag)
    upstream.on(
        TAGS,
        json_answer({"tags": ["1"]}, Link=f'<{TAGS}?last=1>; rel="next"'),
        json_answer({"tags": ["2"]}),
    )


ROWS: Final = (
    Row(
        "a list in two pages",
        "distribution-spec: Listing tags",
        _two_pages,
        mirrored=(f"{APP}:1", f"{APP}:2"),
    ),
)
