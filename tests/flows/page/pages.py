"""A mirror with a page, and what a page consists of once a browser's rules have read it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import httpx

from flows.direct_run import run_direct
from flows.reporting.page.application import with_page
from profiles.loader import load_profile
from profiles.server_options import server_options
from registry_server.http.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_NAMED = ("/image/", "/repository/")


@dataclass
class Page(HTMLParser):
    """What is on a page: `text` without markup, `links`, and the `elements` by their names."""

    status: int
    text: str = ""
    links: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    next: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        found = dict(attrs)
        if tag == "a" and (href := found.get("href")):
            self.links.append(href)
            if found.get("rel") == "next":
                self.next = href

    def handle_data(self, data: str) -> None:
        self.text += data


@dataclass
class Site:
    """A server that shows the page of a profile."""

    client: httpx.Client

    def page(self, path: str, auth: tuple[str, str] | None = None) -> Page:
        answer = self.client.get(path, auth=httpx.BasicAuth(*auth) if auth else None)
        page = Page(answer.status_code)
        page.feed(answer.text)
        page.text = " ".join(page.text.split())
        return page

    def names(self, path: str) -> list[str]:
        """What a list and all its further pages link to."""
        found: list[str] = []
        while path:
            page = self.page(path)
            found += [each for each in page.links if each.startswith(_NAMED) and each != page.next]
            path = page.next
        return found


@contextmanager
def serving(profile: Path) -> Iterator[Site]:
    """As `serve` does it, on a free port."""
    loaded = load_profile(profile)
    options = with_page(server_options(loaded.profile), loaded.profile, profile)
    server = ServerProcess(options)
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            yield Site(client)
    finally:
        server.stop()


def write_profile(folder: Path, *entries: str, http: str = "", more: str = "") -> Path:
    """`entries` and `http` in YAML's flow style, without their braces."""
    path = folder / "profile.yaml"
    path.write_text(
        f"storage: {{rootDirectory: store}}\nhttp: {{port: 0{http and ', '}{http}}}\n{more}\n"
        f"sync:\n  registries:\n" + "".join(f"    - {{{each}}}\n" for each in entries)
    )
    return path


def mirror(profile: Path) -> None:
    """A run of each registry entry, without Prefect."""
    for entry in load_profile(profile).profile.sync.registries:
        run_direct(profile, entry.name)
