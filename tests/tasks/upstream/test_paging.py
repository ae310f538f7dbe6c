"""Lists in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tasks.upstream.errors import UpstreamProtocolError, Where
from tasks.upstream.paging import next_link
from tests.support_behaviours import json_answer
from tests.tasks.upstream.clients import client

if TYPE_CHECKING:
    from tests.support_misbehaving import Exchange, Misbehaving

NAME = "library/nginx"
TAGS = f"/v2/{NAME}/tags/list"
CURRENT = httpx.URL("https://registry.example/v2/a/tags/list?n=2")


@pytest.mark.parametrize(
    "link",
    [
        f"<{TAGS}?n=2&last=b>; rel=next",
        '<?n=2&last=b>; rel="next"',
        '</x>; rel="prev", <?q=opaque>; rel="next"',
    ],
    ids=["absolute path", "query only", "second of two"],
)
def test_a_link_is_followed_as_it_stands(upstream: Misbehaving, link: str) -> None:
    upstream.on(TAGS, json_answer({"tags": ["a", "b"]}, Link=link), json_answer({"tags": ["c"]}))
    with client(upstream) as registry:
        assert registry.tags(NAME) == ["a", "b", "c"]
    assert upstream.seen[1].target.endswith(("last=b", "q=opaque"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ('</v2/b>; rel="next"', "https://registry.example/v2/b"),
        ("<https://registry.example:443/v2/b>;rel=next", "https://registry.example/v2/b"),
        ('</v2/b>; title="x"; rel="last next"', "https://registry.example/v2/b"),
        ('</v2/b>; rel="nextish"', None),
        ('</v2/b>; rel="prev"', None),
        ("garbage", None),
        ("<" * 10_000, None),
        ("<>;" * 10_000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_links_are_read_as_rfc_8288_has_them(header: str, expected: str | None) -> None:
    found = next_link(httpx.Headers({"Link": header}), CURRENT, Where("r"))
    assert found == (httpx.URL(expected) if expected else None)


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "http://registry.example/", "https://registry.example:444/", "//evil/"],
)
def test_a_link_to_another_origin_is_refused(target: str) -> None:
    with pytest.raises(UpstreamProtocolError):
        next_link(httpx.Headers({"Link": f"<{target}>; rel=next"}), CURRENT, Where("r"))


def paged_by_last(names: list[str], most: int) -> Exchange:
    def behave(exchange: Exchange) -> None:
        last = exchange.seen.query.get("last", [""])[0]
        page = [name for name in names if name > last][:most]
        json_answer({"repositories": page, "tags": page})(exchange)

    return behave  # type: ignore[return-value] # only ever passed to `on`


def test_a_cut_catalog_without_a_link_goes_on_after_its_last_name(upstream: Misbehaving) -> None:
    names = [f"r{number:03}" for number in range(7)]
    upstream.on("/v2/_catalog", paged_by_last(names, 3))  # type: ignore[arg-type] # see there
    with client(upstream) as registry:
        assert list(registry.repositories()) == names


def test_a_tag_list_cut_at_a_round_number_goes_on_after_its_last_name(upstream: Misbehaving) -> None:
    names = [f"t{number:03}" for number in range(130)]
    upstream.on(TAGS, paged_by_last(names, 50))  # type: ignore[arg-type] # see there
    with client(upstream) as registry:
        assert registry.tags(NAME) == names
    assert len(upstream.seen) == 3


def test_a_short_tag_list_is_one_request(upstream: Misbehaving) -> None:
    upstream.on(TAGS, json_answer({"tags": ["b", "a"]}))
    with client(upstream) as registry:
        assert registry.tags(NAME) == ["b", "a"]
    assert [each.target for each in upstream.seen] == [f"{TAGS}?n=1000"]


@pytest.mark.parametrize("document", [{"tags": None}, {"tags": []}, {"name": NAME}], ids=str)
def test_an_empty_list_has_many_spellings(upstream: Misbehaving, document: dict[str, object]) -> None:
    upstream.on(TAGS, json_answer(document))
    with client(upstream) as registry:
        assert registry.tags(NAME) == []


def test_a_registry_that_ignores_last_is_not_asked_for_ever(upstream: Misbehaving) -> None:
    upstream.on("/v2/_catalog", json_answer({"repositories": ["a", "b"]}))
    with client(upstream) as registry:
        assert list(registry.repositories()) == ["a", "b"]
    assert len(upstream.seen) == 2


def test_a_link_to_itself_ends(upstream: Misbehaving) -> None:
    upstream.on(TAGS, json_answer({"tags": ["a"]}, Link=f"<{TAGS}>; rel=next"))
    with client(upstream) as registry:
        assert registry.tags(NAME) == ["a"]
    assert len(upstream.seen) == 2
