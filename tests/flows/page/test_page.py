"""The page: a browser's answer to "is my mirror complete, fresh and trusted, and if not, why"."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from flows.reporting.entry_status import requests_of
from registry_server.oci import media_types
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.flows.page.pages import Site, mirror, serving, write_profile
from tests.registry_server.http.auth.support import AUTH, USERS, write_users
from tests.support_misbehaving import Misbehaving, answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
RULES = "content: [{prefix: '**'}]"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as upstream:
        for tag in ("1.0", "1.1"):
            upstream.add_image("library/app", tag, (b"layer", tag.encode()))
        upstream.add_image("secret/tool", "7", (b"tool",))
        _add_described(upstream, "evil/labels", EVIL)
        for number in range(250):
            upstream.add_image("many/tags", f"t{number:03}", (b"layer",))
        yield upstream


def _add_described(upstream: Misbehaving, repository: str, text: str) -> None:
    config = {
        "os": "linux",
        "architecture": "amd64",
        "created": text,
        "config": {"Env": [f"A={text}"], "Labels": {text: text}, "Entrypoint": [text]},
        "history": [{"created": text, "created_by": text}, "no object", {"created_by": 7}],
    }
    blob = upstream.add_blob(repository, json.dumps(config).encode(), media_types.OCI_CONFIG)
    layer = upstream.add_blob(repository, b"layer")
    body = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": blob.to_json(),
        "layers": [layer.to_json()],
    }
    upstream.add_manifest(repository, "1", json.dumps(body).encode(), media_types.OCI_MANIFEST)


@pytest.fixture(scope="module")
def profile(upstream: Misbehaving, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    found = write_profile(folder, f"name: up, urls: ['http://{upstream.host}'], pollInterval: 6h, {RULES}")
    mirror(found)
    return found


@pytest.fixture(scope="module")
def site(profile: Path) -> Iterator[Site]:
    with serving(profile) as site:
        yield site


def test_a_complete_mirror_is_called_complete_in_the_first_line(site: Site) -> None:
    page = site.page("/")
    assert "Complete: 254 images of 1 registry entry, which is all that the profile wants" in page.text
    assert "254 images stored" in page.text
    assert "every 6h" in page.text
    assert "Problems" in page.text  # the page of that name
    assert "not in place" in page.text


def test_what_is_missing_comes_first_with_its_reason(tmp_path: Path) -> None:
    with Misbehaving() as sick:
        image = sick.add_image("app", "1", (b"layer",))
        sick.add_image("app", "2", (b"other",))
        sick.on(f"/v2/app/blobs/{image.layers[0].digest}", answers(403))
        profile = write_profile(tmp_path, f"name: sick, urls: ['http://{sick.host}'], {RULES}")
        mirror(profile)
    with serving(profile) as site:
        page = site.page("/")
        assert "Not complete" in page.text
        assert "1 image is not in place" in page.text
        assert page.text.index("app:1") < page.text.index("Registry entries")
        problems = site.page("/problems")
        assert "1 image is not in place" in problems.text
        assert "403" in problems.text
        assert "not in place" in site.page("/repository/app").text


def test_every_link_leads_to_a_page(site: Site) -> None:
    seen: dict[str, int] = {}
    waiting = ["/"]
    while waiting and len(seen) < 60:
        path = waiting.pop()
        if path in seen or path.startswith(("http", "#")):
            continue
        page = site.page(path)
        seen[path] = page.status
        waiting += page.links
    assert {path: status for path, status in seen.items() if status != 200} == {}
    kinds = {path.split("/")[1].partition("?")[0] for path in seen}
    assert kinds >= {"", "problems", "repositories", "repository", "image", "runs", "run"}


def test_texts_of_others_are_never_markup(site: Site) -> None:
    page = site.page("/image/evil/labels:1")
    assert page.text.count("<script>alert(1)</script>") >= 5
    assert page.elements.count("script") == 1  # our own, from a file
    assert "img" not in page.elements


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/runs", 200),
        ("/assets/page.css", 200),
        ("/nowhere", 404),
        ("/image/library/app:9", 404),
        ("/image/library/app@sha256:00", 404),
        ("/repository/UPPER", 404),
        ("/repository/library/none", 404),
        ("/repository/%2e%2e%2fetc", 404),
        ("/assets/..%2fsnapshot.py", 404),
        ("/run/none", 404),
        (f"/repositories?q={EVIL}", 200),
        ("/repositories?after=%00&q=%ff", 200),
        ("/run/x?after=99999999999999999999", 404),
    ],
)
def test_every_answer_forbids_what_is_not_its_own(site: Site, path: str, status: int) -> None:
    answer = site.client.get(path)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_the_page_changes_nothing(site: Site, method: str) -> None:
    assert site.client.request(method, "/").status_code == 405
    assert site.client.request(method, "/repository/library/app").status_code == 405


def test_head_has_the_headers_of_get_and_no_body(site: Site) -> None:
    answer = site.client.head("/repositories")
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-type"].startswith("text/html")


def test_a_long_list_comes_in_pages_that_leave_nothing_out(site: Site) -> None:
    found = site.names("/repository/many/tags")
    assert found == [f"/image/many/tags:t{number:03}" for number in range(250)]


def test_a_search_narrows_a_list_and_goes_on_in_its_pages(site: Site) -> None:
    assert site.names("/repository/many/tags?q=t1") == [
        f"/image/many/tags:t1{number:02}" for number in range(100)
    ]
    assert site.names("/repositories?q=LIBRARY") == ["/repository/library/app"]


def test_an_image_tells_how_to_pull_it_and_what_it_is(site: Site) -> None:
    page = site.page("/image/library/app:1.0")
    host = site.client.base_url.netloc.decode()
    assert f"docker pull {host}/library/app:1.0" in page.text
    assert "application/vnd.oci.image.manifest.v1+json" in page.text
    assert "from up, library/app" in page.text
    assert "no policy" in page.text


def test_a_host_header_of_somebody_else_is_no_pull_command(site: Site) -> None:
    answer = site.client.get("/image/library/app:1.0", headers={"Host": 'x" onclick="alert(1)'})
    assert "onclick" not in answer.text


def test_a_run_is_told_from_its_report(site: Site) -> None:
    runs = site.page("/runs")
    link = next(link for link in runs.links if link.startswith("/run/"))
    page = site.page(link)
    assert "254 of 254 images" in page.text
    assert "new" in page.text


def test_the_page_can_be_turned_off(profile: Path, tmp_path: Path) -> None:
    text = profile.read_text().replace("rootDirectory: store", f"rootDirectory: {profile.parent / 'store'}")
    off = tmp_path / "off.yaml"
    off.write_text(f"ui: {{enable: false}}\n{text}")
    with serving(off) as site:
        answer = site.client.get("/")
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"
        assert site.client.get("/v2/").status_code == 200


def test_the_registry_api_is_the_same_beside_the_page(site: Site) -> None:
    assert site.client.get("/v2/").json() == {}
    assert site.client.get("/v2/library/app/tags/list").json()["tags"] == ["1.0", "1.1"]
    assert site.client.get("/livez").text == "ok\n"
    assert site.client.get("/v2x").headers["content-type"].startswith("text/html")


@pytest.fixture(scope="module")
def guarded(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """alice may read library/**, admin everything."""
    folder = tmp_path_factory.mktemp("guarded")
    write_users(folder / "htpasswd")
    control = (
        "accessControl: {repositories: {'library/**': {policies: [{users: [alice], actions: [read]}]}}, "
        "adminPolicy: {users: [admin], actions: [read, create, update, delete]}}"
    )
    text = profile.read_text().replace("rootDirectory: store", f"rootDirectory: {profile.parent / 'store'}")
    path = folder / "guarded.yaml"
    path.write_text(text.replace("http: {port: 0}", f"http: {{port: 0, {AUTH}, {control}}}"))
    with serving(path) as site:
        yield site


def test_without_signing_in_a_browser_is_asked_for_a_password(guarded: Site) -> None:
    for path in ("/", "/repositories", "/image/library/app:1.0", "/run/x"):
        answer = guarded.client.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert "library" not in answer.text


def test_a_wrong_password_shows_nothing(guarded: Site) -> None:
    assert guarded.client.get("/", auth=("alice", "wrong")).status_code == 401


def test_a_visitor_sees_only_what_he_may_pull(guarded: Site) -> None:
    alice = ("alice", USERS["alice"])
    listed = guarded.page("/repositories", alice)
    assert [link for link in listed.links if link.startswith("/repository/")] == ["/repository/library/app"]
    assert "2 images stored" in guarded.page("/", alice).text
    assert "on disk" not in guarded.page("/", alice).text
    for path in ("/repository/secret/tool", "/image/secret/tool:7"):
        hidden, absent = guarded.page(path, alice), guarded.page(path.replace("secret", "absent"), alice)
        assert (hidden.status, hidden.text.replace("secret", "absent")) == (absent.status, absent.text)
    run = next(link for link in guarded.page("/runs", alice).links if link.startswith("/run/"))
    assert "secret/tool" not in guarded.page(run, alice).text
    assert "library/app" in guarded.page(run, alice).text


def test_an_administrator_sees_all_of_it(guarded: Site) -> None:
    admin = ("admin", USERS["admin"])
    assert "254 images stored" in guarded.page("/", admin).text
    assert guarded.page("/image/secret/tool:7", admin).status == 200


def test_metrics_have_the_state_of_each_registry_entry(site: Site) -> None:
    text = site.client.get("/metrics").text
    assert 'mirrorflow_entry_images{registry="up"} 254.0' in text
    assert 'mirrorflow_entry_in_place{registry="up"} 1.0' in text
    assert 'mirrorflow_entry_problems{registry="up"} 0.0' in text
    assert 'mirrorflow_entry_last_run_requests{kind="HEAD manifest",registry="up"} 254.0' in text
    lag = next(line for line in text.splitlines() if line.startswith("mirrorflow_entry_lag_seconds{"))
    assert 0 <= float(lag.split()[1]) < 3600


def test_bytes_are_no_requests() -> None:
    """Also those of a destination, which stand in the report beside its requests."""
    counts = {"HEAD manifest": 2, "bytes": 7, "x: HEAD manifest": 3, "x: bytes sent": 9, "x: bytes": 8}
    assert requests_of({"requests": counts}) == {"HEAD manifest": 2, "x: HEAD manifest": 3}
    assert requests_of({}) == {}


def test_a_change_of_the_store_is_seen_soon(profile: Path, upstream: Misbehaving, tmp_path: Path) -> None:
    mine = write_profile(
        tmp_path, f"name: up, urls: ['http://{upstream.host}'], content: [{{prefix: library/*}}]"
    )
    mirror(mine)
    with serving(mine) as site:
        assert "2 images stored" in site.page("/").text
        store = Store.open(tmp_path / "store")
        store.repository(RepositoryName("library/app")).delete_tag(Tag("1.1"))
        deadline = time.monotonic() + 60
        while "1 image stored" not in site.page("/").text and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "1 image stored" in site.page("/").text


def test_a_store_that_is_not_there_yet_is_said_to_be_so(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, f"name: up, urls: ['http://127.0.0.1:1'], {RULES}")
    with serving(profile) as site:
        assert "never run" in site.page("/").text


def test_a_profile_that_became_wrong_leaves_the_last_state_on_the_page(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    mine = write_profile(
        tmp_path, f"name: up, urls: ['http://{upstream.host}'], content: [{{prefix: library/*}}]"
    )
    mirror(mine)
    with serving(mine) as site:
        assert site.page("/").status == 200
        mine.write_text("sync: nonsense")
        deadline = time.monotonic() + 60
        while "cannot be read again" not in site.page("/").text and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "cannot be read again" in site.page("/").text
        assert str(mine) not in site.page("/").text
        assert "2 images stored" in site.page("/").text
