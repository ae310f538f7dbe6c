from __future__ import annotations

import pytest

from registry_server.http.pull.paging import LONGEST_PAGE, Page, PageInvalid


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, Page(LONGEST_PAGE)),
        ({"n": "5"}, Page(5)),
        ({"n": "5", "last": "v1"}, Page(5, "v1")),
        ({"last": "v1"}, Page(LONGEST_PAGE, "v1")),
        ({"n": "0"}, Page(0)),
        ({"n": "007"}, Page(7)),
        ({"n": "10001"}, Page(LONGEST_PAGE)),
        ({"n": "9" * 5000}, Page(LONGEST_PAGE)),  # int() would refuse it
    ],
)
def test_a_page_is_read_from_the_query(query: dict[str, str], page: Page) -> None:
    assert Page.parse(query) == page


@pytest.mark.parametrize("number", ["", "-1", "five", "1.5", " 5", "+5", "\u0665", "0x5"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(PageInvalid, match="is not a number"):
        Page.parse({"n": number})


@pytest.mark.parametrize(
    ("page", "names", "link"),
    [
        pytest.param(Page(2), ["a", "b", "c"], '</x?n=2&last=b>; rel="next"', id="more"),
        pytest.param(Page(2), ["a", "b"], None, id="exactly-one-page"),
        pytest.param(Page(2), [], None, id="empty"),
        pytest.param(Page(0), ["a"], None, id="nothing-asked-for"),
        pytest.param(Page(1), ["a/b", "c"], '</x?n=1&last=a%2Fb>; rel="next"', id="escaped"),
    ],
)  # fmt: skip
def test_only_a_page_with_a_successor_has_a_link(page: Page, names: list[str], link: str | None) -> None:
    assert page.link("/x", names).get("Link") == link


def test_pages_of_a_list_join_to_the_whole() -> None:
    names = sorted(["a", "a-b", "a.b", "a/b", "a0", "b", "c"])  # ASCII order: - . / 0
    seen: list[str] = []
    page = Page(2)
    while found := page.after(names):
        seen += page.cut(found)
        page = Page(2, page.cut(found)[-1])
    assert seen == names


def test_the_name_that_a_page_begins_after_need_not_exist() -> None:
    assert Page(5, "b").after(["a", "c"]) == ["c"]
