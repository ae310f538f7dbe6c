"""Lists in pages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tasks.upstream.errors import UpstreamProtocolError, Where
from tasks.upstream.lists.paging import next_link
from tests.support_behaviours import answers, json_answer, redirects
from tests.tasks.upstream.clients import OneCredential, client
from tests.tasks.upstream.login.test_auth import BASIC, needs

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
        ('</v2/b>; REL = "prev  NEXT"', "https://registry.example/v2/b"),
        ('</v2/b>; rel="nextish"', None),
        ("</v2/b>; rel=next-page", None),
        ('</v2/b>; rel="prev"', None),
        ("garbage", None),
        ("<" * 8_000, None),
        ("<>;" * 2_600, None),
        ('/v2/b?next_page=x&n=50; rel="next"', "https://registry.example/v2/b?next_page=x&n=50"),
        ('</v2/b#there>; rel="next"', "https://registry.example/v2/b"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_links_are_read_as_rfc_8288_has_them(header: str, expected: str | None) -> None:
    found = next_link(httpx.Headers({"Link": header}), CURRENT, Where("r"))
    assert found == (httpx.URL(expected) if expected else None)


@pytest.mark.parametrize(
    "header",
    [
        '</x>;rel="' + " " * 8_000 + '"',
        'x;rel="' + " " * 8_000 + '"',
        '</x>;rel="' + "next" * 2_000 + '"',
        "</x>;" + "rel" + " " * 8_000,
        "</x>;rel=" + " " * 8_000,
        "</x>" + ';rel="' * 1_300,
        "</x>;rel=next" + ";" * 8_000 + "<",
    ],
    ids=lambda header: header[:20],
)
def test_the_longest_link_is_read_in_no_time(header: str) -> None:
    headers = httpx.Headers({"Link": header})
    began = time.thread_time()
    next_link(headers, CURRENT, Where("r"))
    assert time.thread_time() - began < 0.2  # seconds; a quadratic pattern takes more than one


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/v2/a?q=1",
        "http://registry.example/v2/a?q=1",
        "https://registry.example:444/v2/a?q=1",
        "//evil/v2/a?q=1",
        "https://u:p@registry.example/v2/a?q=1",
    ],
)
def test_a_link_to_another_origin_is_asked_of_the_one_that_answered(target: str) -> None:
    found = next_link(httpx.Headers({"Link": f"<{target}>; rel=next"}), CURRENT, Where("r"))
    assert found == httpx.URL("https://registry.example/v2/a?q=1")


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("<file:///etc/passwd>; rel=next", "not an http or https URL"),
        ("<https://a:b/>; rel=next", "not a URL"),
        ("<:http://]@@>; rel=next", "not a URL"),
        (f"<{'x' * 9000}>; rel=next", "more than 8192 characters"),
    ],
)
def test_a_link_that_cannot_be_followed_is_an_error_and_not_the_end(link: str, reason: str) -> None:
    with pytest.raises(UpstreamProtocolError, match=reason):
        next_link(httpx.Headers({"Link": link}), CURRENT, Where("r"))


def test_pages_at_another_origin_are_asked_for_without_our_login(
    upstream: Misbehaving, other: Misbehaving
) -> None:
    upstream.on("/v2/", needs(BASIC, "Basic realm=x"))
    upstream.on(TAGS, redirects(f"http://{other.host}{TAGS}"))
    other.on(
        TAGS, json_answer({"tags": ["a"]}, Link=f"<{TAGS}?last=a>; rel=next"), json_answer({"tags": ["b"]})
    )
    with client(upstream, credentials=OneCredential()) as registry:
        assert registry.tags(NAME) == ["a", "b"]
    assert upstream.requests(path=TAGS)[0].headers["authorization"] == BASIC
    assert ["authorization" in each.headers for each in other.seen] == [False, False]


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


def test_a_page_size_that_is_refused_is_asked_for_once(upstream: Misbehaving) -> None:
    def behave(exchange: Exchange) -> None:
        (answers(400) if "n" in exchange.seen.query else json_answer({"tags": ["a"]}))(exchange)

    upstream.on(TAGS, behave)
    with client(upstream) as registry:
        assert [registry.tags(NAME) for _ in range(3)] == [["a"]] * 3
    assert [each.target for each in upstream.seen] == [f"{TAGS}?n=1000", TAGS, TAGS, TAGS]


def test_a_list_goes_on_with_the_page_that_failed(upstream: Misbehaving) -> None:
    pages = [json_answer({"tags": [name]}, Link=f"<{TAGS}?last={name}>; rel=next") for name in "abcd"]
    failing = [each for page in pages for each in (answers(503), page)]
    upstream.on(TAGS, *failing, json_answer({"tags": ["e"]}))
    with client(upstream) as registry:
        assert registry.tags(NAME) == ["a", "b", "c", "d", "e"]
    assert len(upstream.seen) == 9
