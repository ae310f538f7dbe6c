"""Every endpoint, as every kind of caller, in a repository that is the caller's, another's, and nobody's.

The table is the policy. Beside it one rule holds for all rows: what is another's and what is not there give
the same answer, to the byte, so nobody learns which repositories there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_images import layer
from registry_server.oci.digest import Digest
from tests.registry_server.http.auth.support import AUTH, auth_of, bearer, guarded, token
from tests.support.registries import put_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.support.registries import Registry

CONTROL = """
accessControl:
  repositories:
    "team/**": {policies: [{users: [alice], actions: [read]}]}
    "other/**": {policies: [{groups: [others], actions: [read]}]}
    "open/**": {anonymousPolicy: [read]}
  groups: {others: {users: [bob]}}
  adminPolicy: {users: [admin], actions: [read, create, update, delete]}
"""
OWN, FOREIGN, ABSENT, OPEN = "team/app", "other/app", "other/none", "open/app"
BASE = layer("base", 3000)
BLOB, CONFIG = Digest.of(BASE.content), Digest.of(b"nothing refers to this")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with guarded(tmp_path_factory.mktemp("matrix"), f"{AUTH}{CONTROL}", writable=False) as found:
        for name in (OWN, FOREIGN, OPEN):
            maker = found.maker(name)
            maker.tag(maker.image([BASE]), "1")
            put_blob(found.store, name, b"blob")
        yield found


@dataclass(frozen=True)
class Row:
    method: str
    path: str  # with {} for the repository
    anonymous: tuple[int, int, int]  # statuses: own, foreign, absent
    user: tuple[int, int, int]
    admin: tuple[int, int, int]


_401 = (401, 401, 401)
_READ = (_401, (200, 404, 404), (200, 200, 404))
# This server writes nothing: whoever is let through is told so with 405.
_WRITE = (_401, (403, 403, 403), (405, 405, 405))
TABLE = [
    Row("GET", "/v2/{}/manifests/1", *_READ),
    Row("HEAD", "/v2/{}/manifests/1", *_READ),
    Row("GET", "/v2/{}/manifests/none", _401, (404, 404, 404), (404, 404, 404)),
    Row("GET", f"/v2/{{}}/blobs/{BLOB}", *_READ),
    Row("HEAD", f"/v2/{{}}/blobs/{BLOB}", *_READ),
    Row("GET", f"/v2/{{}}/blobs/{CONFIG}", _401, (404, 404, 404), (404, 404, 404)),
    Row("GET", "/v2/{}/tags/list", *_READ),
    Row("GET", "/v2/{}/tags/list?n=1", *_READ),
    # No referrers and no repository look the same anyway (distribution-spec, "Listing Referrers").
    Row("GET", f"/v2/{{}}/referrers/{BLOB}", _401, (200, 200, 200), (200, 200, 200)),
    Row("PUT", "/v2/{}/manifests/2", *_WRITE),
    Row("PUT", "/v2/{}/manifests/1", *_WRITE),
    Row("PUT", f"/v2/{{}}/manifests/{BLOB}?tag=1", *_WRITE),
    Row("DELETE", "/v2/{}/manifests/1", *_WRITE),
    Row("DELETE", f"/v2/{{}}/blobs/{BLOB}", *_WRITE),
    Row("POST", "/v2/{}/blobs/uploads/", *_WRITE),
    Row("POST", f"/v2/{{}}/blobs/uploads/?mount={BLOB}&from=other/app", *_WRITE),
    Row("GET", "/v2/{}/blobs/uploads/session", *_WRITE),
    Row("PATCH", "/v2/{}/blobs/uploads/session", *_WRITE),
    Row("PUT", f"/v2/{{}}/blobs/uploads/session?digest={BLOB}", *_WRITE),
    Row("DELETE", "/v2/{}/blobs/uploads/session", *_WRITE),
    Row("POST", "/v2/{}/tags/list", *_WRITE),
    Row("POST", "/v2/{}/manifests/1", *_WRITE),
]
NAMES = (OWN, FOREIGN, ABSENT)


def _ask(registry: Registry, row: Row, name: str, who: str, *, by_token: bool) -> httpx.Response:
    path = row.path.format(name)
    if not by_token:
        return registry.client.request(row.method, path, auth=auth_of(who))
    text = token(registry, who, f"repository:{name}:pull,push,delete", "repository:other/app:pull")
    return registry.client.request(row.method, path, headers=bearer(text))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
@pytest.mark.parametrize("by_token", [False, True], ids=["password", "token"])
@pytest.mark.parametrize(("kind", "who"), [("anonymous", ""), ("user", "alice"), ("admin", "admin")])
def test_the_table_holds(registry: Registry, row: Row, kind: str, who: str, *, by_token: bool) -> None:
    answers = [_ask(registry, row, name, who, by_token=by_token) for name in NAMES]
    assert tuple(answer.status_code for answer in answers) == getattr(row, kind)
    if kind != "admin":  # who may read everything is told what there is
        assert _shape(answers[1], FOREIGN) == _shape(answers[2], ABSENT)


def _shape(answer: httpx.Response, name: str) -> tuple[int, str, dict[str, str]]:
    """All of an answer but the repository's name and what differs from one request to the next."""
    headers = {
        key: value.replace(name, "<name>")
        for key, value in answer.headers.items()
        if key not in ("date", "x-request-id", "content-length")
    }
    return answer.status_code, answer.text.replace(name, "<name>"), headers


@pytest.mark.parametrize(
    ("who", "names"),
    [
        ("", [OPEN]),
        ("alice", [OPEN, OWN]),
        ("bob", [OPEN, FOREIGN]),
        ("zoe", [OPEN]),
        ("admin", [OPEN, FOREIGN, OWN]),
    ],
)
@pytest.mark.parametrize("by_token", [False, True], ids=["password", "token"])
def test_the_catalog_shows_each_caller_his_own(
    registry: Registry, who: str, names: list[str], *, by_token: bool
) -> None:
    headers = bearer(token(registry, who, "registry:catalog:*")) if by_token else {}
    answer = registry.client.get("/v2/_catalog", auth=auth_of("" if by_token else who), headers=headers)
    assert answer.json() == {"repositories": names}


def test_pages_of_the_catalog_name_nothing_hidden(registry: Registry) -> None:
    answer = registry.client.get("/v2/_catalog?n=1", auth=auth_of("alice"))
    assert answer.json() == {"repositories": [OPEN]}
    assert answer.headers["Link"] == '</v2/_catalog?n=1&last=open%2Fapp>; rel="next"'
    assert registry.client.get("/v2/_catalog?n=1&last=open%2Fapp", auth=auth_of("alice")).json() == {
        "repositories": [OWN]
    }
    hidden = registry.client.get("/v2/_catalog?n=1&last=open%2Fapp", auth=auth_of("zoe"))
    assert (hidden.json(), "Link" in hidden.headers) == ({"repositories": []}, False)


def test_a_digest_of_another_repository_is_no_way_in(registry: Registry) -> None:
    """zot's GHSA-55r9-5mx9-qq7r: a blob that is shared on disk is not shared among repositories."""
    private = put_blob(registry.store, FOREIGN, b"bob's blob")
    for name in (OWN, FOREIGN, OPEN):
        answer = registry.client.get(f"/v2/{name}/blobs/{private.digest}", auth=auth_of("alice"))
        assert answer.status_code == 404
    assert (
        registry.client.get(f"/v2/{FOREIGN}/blobs/{private.digest}", auth=auth_of("bob")).status_code == 200
    )


@pytest.mark.parametrize(
    "host", ["other.example", "team/app", "a@b", "127.0.0.1/v2/open/app/tags/list?", 'x",error="y']
)
def test_the_host_header_decides_nothing(registry: Registry, host: str) -> None:
    answer = registry.client.get(f"/v2/{FOREIGN}/tags/list", headers={"Host": host})
    assert answer.status_code in (400, 401)
    assert answer.headers.get("WWW-Authenticate", "").count('"') in (0, 6)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/open/app/../../other/app/tags/list",
        "/v2/open%2Fapp/tags/list",
        "/v2/open/%2e%2e/other/app/tags/list",
        "/v2/%6fther/app/tags/list",  # an escape of a plain letter: the route is decoded, and so decides
    ],
)
def test_no_spelling_of_a_path_leads_around(registry: Registry, path: str) -> None:
    answer = registry.client.get(path)
    assert answer.status_code in (400, 401)
