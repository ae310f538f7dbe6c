"""What the page tells whom: repositories that a visitor may not read, and those that are not in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.flows.page.pages import Site, mirror, serving, write_profile
from tests.registry_server.http.auth.support import AUTH, USERS, write_users
from tests.support.push_target import push_target
from tests.support_misbehaving import Misbehaving, answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALICE, ADMIN = (("alice", USERS["alice"]), ("admin", USERS["admin"]))
CONTROL = (
    "accessControl: {repositories: {'library/**': {policies: [{users: [alice], actions: [read]}]}}, "
    "adminPolicy: {users: [admin], actions: [read]}}"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """alice may read library/**. The last run failed at secret/tool, and says so in words."""
    folder = tmp_path_factory.mktemp("mirror")
    write_users(folder / "htpasswd")
    with Misbehaving() as upstream:
        upstream.add_image("library/app", "1", (b"layer",))
        upstream.on("/v2/secret/tool/tags/list", answers(403))
        rules = "content: [{prefix: library/app}, {prefix: secret/tool}]"
        entry = f"name: up, urls: ['http://{upstream.host}'], {rules}"
        profile = write_profile(folder, entry, http=f"{AUTH}, {CONTROL}")
        mirror(profile)
    with serving(profile) as site:
        yield site


def _run(site: Site, auth: tuple[str, str]) -> str:
    return next(link for link in site.page("/runs", auth).links if link.startswith("/run/"))


@pytest.mark.parametrize("path", ["/", "/problems", "/repositories", "/runs", "run"])
def test_what_a_run_says_in_words_names_no_repository_to_who_may_not_read_it(site: Site, path: str) -> None:
    found = _run(site, ALICE) if path == "run" else path
    page = site.page(found, ALICE)
    assert page.status == 200
    assert "secret" not in page.text
    assert "secret" not in " ".join(page.links)


@pytest.mark.parametrize("path", ["/", "/runs", "run"])
def test_who_may_read_everything_is_told_what_went_wrong(site: Site, path: str) -> None:
    found = _run(site, ADMIN) if path == "run" else path
    assert "secret/tool" in site.page(found, ADMIN).text


def test_sums_over_all_images_are_for_who_may_read_all_of_them(site: Site) -> None:
    assert "1 of 1 in place" in site.page(_run(site, ADMIN), ADMIN).text
    assert "in place" not in site.page(_run(site, ALICE), ALICE).text
    assert "library/app:1" in site.page(_run(site, ALICE), ALICE).text


def test_a_repository_that_is_in_another_registry_only_has_a_page(tmp_path: Path) -> None:
    with Misbehaving() as upstream, push_target() as target:
        upstream.add_image("library/app", "1", (b"layer",))
        entry = f"name: up, urls: ['http://{upstream.host}'], to: [other], content: [{{prefix: library/app}}]"
        destinations = f"destinations: [{{name: other, url: '{target.url}'}}]"
        profile = write_profile(tmp_path, entry, more=destinations)
        mirror(profile)
    with serving(profile) as site:
        listed = site.page("/repositories")
        assert "/repository/library/app" in listed.links
        page = site.page("/repository/library/app")
        assert page.status == 200
        assert "in other" in page.text
        assert not [link for link in page.links if link.startswith("/image/")]
