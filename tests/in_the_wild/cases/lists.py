"""Lists of tags, catalogs and referrers that end too early, never, or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.in_the_wild.cases.rows import Row
from tests.support_behaviours import answers, json_answer, says, well_behaved

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

    Arrange = Callable[[Misbehaving], None]

APP: Final = "library/app"
TAGS: Final = f"/v2/{APP}/tags/list"
CATALOG: Final = "/v2/_catalog"
FOUR: Final = (f"{APP}:v0", f"{APP}:v1", f"{APP}:v2", f"{APP}:v3")
LITERAL: Final = ({"prefix": APP},)


def _tags(*pages: tuple[list[str], str], at: str = TAGS, first: Behaviour | None = None) -> Arrange:
    """`pages` with the target of their Link; images for all of their tags."""

    def arrange(upstream: Misbehaving) -> None:
        for tag in {tag for page, _ in pages for tag in page}:
            upstream.add_image(APP, tag)
        behaviours = [_page({"tags": page}, link.replace("{host}", upstream.host)) for page, link in pages]
        upstream.on(at, *behaviours)
        if first is not None:
            upstream.on(TAGS, first)

    return arrange


def _page(document: dict[str, Any], link: str) -> Behaviour:
    return json_answer(document, **({"Link": f'<{link}>; rel="next"'} if link else {}))


def _ever_new_links(upstream: Misbehaving) -> None:
    upstream.add_image(APP, "v0")

    def behave(exchange: Exchange) -> None:
        number = int(exchange.seen.query.get("page", ["0"])[0])
        _page({"tags": ["v0"]}, f"{TAGS}?page={number + 1}")(exchange)

    upstream.on(TAGS, behave)


def _without_brackets(upstream: Misbehaving) -> None:
    for tag in ("v0", "v1"):
        upstream.add_image(APP, tag)
    link = f'{TAGS}?next_page=gAAA%3D&n=50; rel="next"'
    upstream.on(TAGS, json_answer({"tags": ["v0"]}, Link=link), json_answer({"tags": ["v1"]}))


def _refuses(parameter: str, refusal: Behaviour, *, at: str = CATALOG, links: bool = False) -> Arrange:
    """A registry with two repositories (and 50 tags in one) that refuses a query parameter."""

    def arrange(upstream: Misbehaving) -> None:
        for tag in ("v0", "v1"):
            upstream.add_image(APP, tag)

        def behave(exchange: Exchange) -> None:
            query = exchange.seen.query
            if parameter in query:
                refusal(exchange)
            elif links and "last" not in query:
                key = "repositories" if at == CATALOG else "tags"
                page = [APP] if at == CATALOG else ["v0"]
                _page({key: page}, f"{at}?last={page[-1]}")(exchange)
            elif links and at == TAGS:
                _page({"tags": ["v1"]}, "")(exchange)
            else:
                well_behaved(exchange)

        upstream.on(at, behave)

    return arrange


def _fifty_tags_and_no_last(upstream: Misbehaving) -> None:
    upstream.add_image(APP, "v0")
    page = ["v0", *(f"-{number}" for number in range(49))]  # 49 that are no tags, and cost nothing

    def behave(exchange: Exchange) -> None:
        (answers(405) if "last" in exchange.seen.query else _page({"tags": page}, ""))(exchange)

    upstream.on(TAGS, behave)


def _moved_list(upstream: Misbehaving) -> None:
    """Relative Links belong to the URL that answered (RFC 3986, 5.1.3)."""
    _tags(
        (["v0", "v1"], "more?last=v1"),
        at="/artifactory/list",
        first=answers(307, Location="/artifactory/list"),
    )(upstream)
    for tag in ("v2", "v3"):
        upstream.add_image(APP, tag)
    upstream.on("/artifactory/more", _page({"tags": ["v2", "v3"]}, ""))


ROWS: Final = (
    Row(
        "a list in two pages",
        "distribution-spec: Listing tags",
        _tags((["v0", "v1"], f"{TAGS}?last=v1"), (["v2", "v3"], "")),
        mirrored=FOUR,
    ),
    Row(
        "an empty page in the middle of a list",
        "opencontainers/distribution-spec 470: with Link, pages may be shorter than n",
        _tags((["v0", "v1"], f"{TAGS}?a"), ([], f"{TAGS}?b"), (["v2", "v3"], "")),
        mirrored=FOUR,
    ),
    Row(
        "a second page that repeats the first",
        "deitch/docker_registry2 56: registries that ignore `last` and page by a parameter of their own",
        _tags((["v0", "v1"], f"{TAGS}?a"), (["v0", "v1"], f"{TAGS}?b"), (["v2", "v3"], "")),
        mirrored=FOUR,
    ),
    Row(
        "a Link that points to itself",
        "gadievron/raptor 495: chains of Links that are cycles",
        _tags((["v0"], f"{TAGS}?n=1000")),
        content=LITERAL,
        problem="page 1 of its list links to a page before it",
    ),
    Row(
        "Links in a circle",
        "gadievron/raptor 495",
        _tags((["v0"], f"{TAGS}?a"), (["v1"], f"{TAGS}?b"), (["v2"], f"{TAGS}?a")),
        content=LITERAL,
        problem="page 3 of its list links to a page before it",
    ),
    Row(
        "Links that never end and bring nothing new",
        "gadievron/raptor 495",
        _ever_new_links,
        content=LITERAL,
        problem="its list has no end: 100 pages in a row had nothing new",
    ),
    Row(
        "a Link behind an empty last page",
        "pulp/pulp_container 220: Link is sent also when all is listed",
        _tags((["v0", "v1", "v2", "v3"], f"{TAGS}?last=v3"), ([], "")),
        mirrored=FOUR,
    ),
    Row(
        "a Link without angle brackets",
        "heroku/docker-registry-client 11: quay.io",
        _without_brackets,
        mirrored=FOUR[:2],
    ),
    Row(
        "a Link with the address behind the proxy",
        "oras-project/artifacts-spec 93",
        _tags((["v0", "v1"], f"http://registry.internal:5000{TAGS}?last=v1"), (["v2", "v3"], "")),
        mirrored=FOUR,
    ),
    Row(
        "a Link with the scheme behind the proxy",
        "oras-project/artifacts-spec 93",
        _tags((["v0", "v1"], f"https://{{host}}{TAGS}?last=v1"), (["v2", "v3"], "")),
        mirrored=FOUR,
    ),
    Row("a list behind a redirect", "RFC 3986, 5.1.3", _moved_list, mirrored=FOUR),
    Row(
        "a page in the middle that is not found",
        "distribution-spec: Listing tags",
        _tags((["v0"], "/v2/gone")),
        content=LITERAL,
        problem="page 2 of its list of tags: 404 Not Found",
    ),
    Row(
        "a list whose Link is no web address",
        "RFC 8288",
        _tags((["v0"], "ftp://elsewhere/tags")),
        content=LITERAL,
        problem="not an http or https URL",
    ),
    Row(
        "a catalog that takes fewer than 1000 at a time",
        "Joxit/docker-registry-ui 306: catalog.maxentries",
        _refuses("n", says(400, "PAGINATION_NUMBER_INVALID", "invalid number"), links=True),
        mirrored=FOUR[:2],
    ),
    Row(
        "a list of tags that takes fewer than 1000 at a time",
        "opencontainers/distribution-spec 470: an explicit failure above the limit",
        _refuses("n", says(400, "PAGINATION_NUMBER_INVALID", "too many"), at=TAGS, links=True),
        mirrored=FOUR[:2],
    ),
    Row(
        "a catalog that refuses `last` with 400",
        "distribution-spec: `last` is not asked for without a Link",
        _refuses("last", answers(400)),
        mirrored=FOUR[:2],
        notes=("its list of repositories is taken as whole with 1: .*400 Bad Request",),
    ),
    Row(
        "a catalog that refuses `last` with 405",
        "distribution-spec: `last` is not asked for without a Link",
        _refuses("last", answers(405)),
        mirrored=FOUR[:2],
        notes=("its list of repositories is taken as whole",),
    ),
    Row(
        "fifty tags, no Link, and `last` refused",
        "distribution-spec: `last` is not asked for without a Link",
        _fifty_tags_and_no_last,
        content=LITERAL,
        mirrored=FOUR[:1],
        notes=(f"{APP}: its list of tags is taken as whole with 50: .*405 Method Not Allowed",),
    ),
)
