"""Who may push: by action, by tag that is there or not, and never where the mirror writes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_images import layer
from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_MANIFEST
from registry_server.oci.reference import RepositoryName, Tag
from tests.registry_server.http.auth.support import AUTH, USERS, auth_of, bearer, guarded, token
from tests.support.registries import put_blob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry

CONTROL = """
accessControl:
  repositories:
    "team/**":
      policies:
        - {users: [alice], actions: [read, create]}
        - {users: [bob], actions: [read, update, delete]}
    "secret/**": {policies: [{users: [bob], actions: [read]}]}
    "drop/**": {policies: [{users: [alice, zoe], actions: [create]}]}
    "mirror/**": {policies: [{users: [alice, bob], actions: [read, create, update, delete]}]}
    "mirror/mine/**": {policies: [{users: [alice], actions: [read, create]}], pushToMirrored: true}
  adminPolicy: {users: [admin], actions: [read, create, update, delete]}
limits: {clientSessions: 3}
"""
MIRRORS = """\
sync:
  registries:
    - urls: ["http://127.0.0.1:9"]
      content: [{prefix: library/**, destination: /mirror}, {prefix: library/**, destination: /mirror/mine}]
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("writing")
    with guarded(folder, f"{AUTH}{CONTROL}", rest=MIRRORS) as found:
        for name in ("team/app", "secret/app", "mirror/library/app", "mirror/mine/library/app"):
            maker = found.maker(name)
            maker.tag(maker.image([layer("base", 3000)]), "1")
        yield found


def _manifest(registry: Registry, name: str) -> bytes:
    return registry.store.repository(RepositoryName(name)).read_manifest(Tag("1"))[1]


@pytest.mark.parametrize("by_token", [False, True], ids=["password", "token"])
@pytest.mark.parametrize(
    ("who", "name", "tag", "status"),
    [
        ("alice", "team/app", "alice-{}", 201),
        ("alice", "team/app", "1", 403),  # that would be update
        ("bob", "team/app", "bob-{}", 403),  # and that create
        ("bob", "team/app", "1", 201),
        ("bob", "team/app", "1?tag=other", 403),  # each tag counts
        ("zoe", "team/app", "zoe", 403),
        ("", "team/app", "nobody", 401),
        ("alice", "mirror/library/app", "mine", 403),
        ("admin", "mirror/library/app", "1", 403),
        ("alice", "mirror/mine/library/app", "mine-{}", 201),
        ("admin", "mirror/mine/library/app", "1", 201),
        ("admin", "team/app", "admin-{}", 201),
    ],
)
def test_a_tag_is_set_by_who_may(
    registry: Registry, who: str, name: str, tag: str, status: int, *, by_token: bool
) -> None:
    headers = {"Content-Type": OCI_MANIFEST}
    if by_token and who:
        headers |= bearer(token(registry, who, f"repository:{name}:pull,push"))
    answer = registry.client.put(
        f"/v2/{name}/manifests/{tag.format(by_token)}",
        content=_manifest(registry, name),
        headers=headers,
        auth=auth_of("" if by_token else who),
    )
    assert answer.status_code == status, answer.text
    if "library" in name and status == 403:
        assert "is written by the mirror" in answer.text


@pytest.mark.parametrize(
    ("who", "name", "status"),
    [
        ("alice", "team/app", 403),
        ("bob", "team/app", 202),
        ("bob", "mirror/library/app", 403),
        ("", "team/app", 401),
    ],
)
def test_deleting_is_a_right_of_its_own(registry: Registry, who: str, name: str, status: int) -> None:
    blob = put_blob(registry.store, name, b"to be deleted")
    answer = registry.client.delete(f"/v2/{name}/blobs/{blob.digest}", auth=auth_of(who))
    assert answer.status_code == status


def test_a_mount_takes_nothing_that_the_caller_may_not_read(registry: Registry) -> None:
    """202, an upload: the answer for a repository that is not there (distribution-spec, end-11)."""
    blob = put_blob(registry.store, "secret/app", b"bob's only")
    for query in (
        f"mount={blob.digest}&from=secret/app",
        f"mount={blob.digest}&from=no/app",
        f"mount={blob.digest}",
    ):
        answer = registry.client.post(f"/v2/team/app/blobs/uploads/?{query}", auth=auth_of("alice"))
        assert answer.status_code == 202
        assert registry.client.delete(answer.headers["Location"], auth=auth_of("alice")).status_code == 204
    text = token(registry, "admin", "repository:team/app:pull,push")  # not for the other one
    query = f"mount={blob.digest}&from=secret/app"
    assert (
        registry.client.post(f"/v2/team/app/blobs/uploads/?{query}", headers=bearer(text)).status_code == 202
    )
    text = token(registry, "admin", "repository:team/app:pull,push", "repository:secret/app:pull")
    assert (
        registry.client.post(f"/v2/team/app/blobs/uploads/?{query}", headers=bearer(text)).status_code == 201
    )


def test_who_may_only_push_reads_nothing(registry: Registry) -> None:
    content = b"dropped"
    path = f"/v2/drop/box/blobs/uploads/?digest={Digest.of(content)}"
    assert registry.client.post(path, content=content, auth=auth_of("alice")).status_code == 201
    blob = f"/v2/drop/box/blobs/{Digest.of(content)}"
    assert registry.client.get(blob, auth=auth_of("alice")).status_code == 404
    assert registry.client.get(blob, auth=auth_of("admin")).content == content


def test_one_user_has_so_many_uploads_at_once(registry: Registry) -> None:
    opened = [
        registry.client.post("/v2/drop/many/blobs/uploads/", auth=auth_of("zoe")).status_code
        for _ in range(5)
    ]
    assert opened[0] == 202
    assert opened[-1] in (429, 503)
    assert registry.client.post("/v2/team/app/blobs/uploads/", auth=auth_of("admin")).status_code == 202


@pytest.mark.parametrize(
    ("who", "name", "works"),
    [("alice", "team/pushed", True), ("alice", "mirror/library/x", False), ("zoe", "team/no", False)],
)
def test_skopeo_pushes_what_its_user_may(
    skopeo: str, registry: Registry, tmp_path: Path, who: str, name: str, *, works: bool
) -> None:
    target = f"docker://{registry.host}/{name}:1"
    source = f"docker://{registry.host}/team/app:1"
    command = [skopeo, "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"]
    creds = ["--src-creds", f"admin:{USERS['admin']}", "--dest-creds", f"{who}:{USERS[who]}"]
    done = subprocess.run([*command, *creds, source, target], capture_output=True, timeout=60, check=False)
    assert (done.returncode == 0) is works, done.stderr
