"""The Kubernetes API as `cover` reads it: who it is, page by page, and what it does not let us see."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from flows.cover.cluster import ClusterUnreadable, read_cluster
from flows.cover.kubeconfig import find_access
from registry_server.oci.descriptor import Platform
from tests.cover.clusters import (
    NODES,
    PODS,
    data,
    in_pages,
    listed,
    node,
    pod,
    serve_cluster,
    status,
    workload,
    write_kubeconfig,
)
from tests.support.certificates import Authority
from tests.support_behaviours import answers, json_answer, redirects
from tests.support_misbehaving import Misbehaving, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flows.cover.cluster import ClusterUse


def read(folder: Path, api: Misbehaving, *namespaces: str, **user: Any) -> ClusterUse:
    path = write_kubeconfig(folder, f"http://{api.host}", user)
    return read_cluster(find_access(str(path)), namespaces)


def images(found: ClusterUse) -> set[tuple[str, str]]:
    return {(use.image, use.place) for use in found.uses}


def test_pods_and_workloads_say_what_they_use(api: Misbehaving, tmp_path: Path) -> None:
    serve_cluster(
        api,
        pods=[pod("web-1", "app:1")],
        deployments=[workload("web", "app:1")],
        cronjobs=[
            {"metadata": {"name": "j"}, "spec": {"jobTemplate": {"spec": workload("", "job:2")["spec"]}}}
        ],
        replicasets=[workload("web-new", "app:1", replicas=2), workload("web-old", "app:0", replicas=0)],
    )
    assert images(read(tmp_path, api)) == {
        ("app:1", "Pod shop/web-1, container main"),
        ("app:1", "Deployment shop/web, container main"),
        ("app:1", "ReplicaSet shop/web-new, container main"),
        ("job:2", "CronJob j, container main"),
    }


def test_nodes_say_their_platforms_and_the_sandbox_of_pods(api: Misbehaving, tmp_path: Path) -> None:
    """No object of the API names the image that every pod needs."""
    pause = "registry.k8s.io/pause:3.10"
    serve_cluster(api, nodes=[node("a", "amd64", pause, "other/app:1"), node("b", "arm64")])
    found = read(tmp_path, api)
    assert found.platforms == (Platform("linux", "amd64"), Platform("linux", "arm64"))
    assert (found.nodes, images(found)) == (2, {(pause, "Node a, sandbox of its pods")})


def test_a_long_list_is_read_page_by_page(api: Misbehaving, tmp_path: Path) -> None:
    pages = [[pod(f"p{page}", f"app:{page}")] for page in range(3)]
    api.on(PODS, in_pages(PODS, *pages))
    assert {use.image for use in read(tmp_path, api).uses} == {"app:0", "app:1", "app:2"}
    assert [seen.query.get("limit") for seen in api.requests(path=PODS)] == [["250"]] * 3


def test_a_list_that_expired_is_read_again_as_a_whole(api: Misbehaving, tmp_path: Path) -> None:
    api.on(
        PODS,
        json_answer(listed(PODS, [pod("p", "app:0")], "1")),
        status(410, "The provided continue parameter is too old"),
        json_answer(listed(PODS, [pod("p", "app:0"), pod("q", "app:1")])),
    )
    assert {use.image for use in read(tmp_path, api).uses} == {"app:0", "app:1"}


def test_a_continue_that_leads_nowhere_ends(api: Misbehaving, tmp_path: Path) -> None:
    api.on(PODS, json_answer(listed(PODS, [pod("p", "app:0")], "1")))
    assert {use.image for use in read(tmp_path, api).uses} == {"app:0"}
    assert len(api.requests(path=PODS)) == 2


def test_a_busy_api_is_asked_again(api: Misbehaving, tmp_path: Path) -> None:
    api.on(
        PODS,
        status(429, "too many", Retry_After="0"),
        status(503, "", Retry_After="0"),
        json_answer(listed(PODS, [pod("p", "app:1")])),
    )
    assert {use.image for use in read(tmp_path, api).uses} == {"app:1"}


def test_what_the_user_may_not_list_is_said(api: Misbehaving, tmp_path: Path) -> None:
    api.on(NODES, status(403, 'nodes is forbidden: User "u" cannot list resource'))
    api.on("/apis/batch/v1/cronjobs", status(404, "the server could not find the requested resource"))
    found = read(tmp_path, api)
    assert len(found.not_read) == 1
    assert 'api/v1/nodes: the user may not list them (nodes is forbidden: User "u"' in found.not_read[0]


def test_only_some_namespaces_are_read(api: Misbehaving, tmp_path: Path) -> None:
    path = "/api/v1/namespaces/shop/pods"
    api.on(path, json_answer({**listed(PODS, [pod("p", "app:1")])}))
    assert {use.image for use in read(tmp_path, api, "shop").uses} == {"app:1"}
    assert not api.requests(path=PODS)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        pytest.param(status(401, "Unauthorized"), "refuses the credentials (401)", id="401"),
        pytest.param(
            answers(500, b"<html>", Retry_After="0"), "HTTP 500: no reason given", id="500, and no Status"
        ),
        pytest.param(answers(200, b"hello"), "is no list of Kubernetes objects", id="not JSON"),
        pytest.param(json_answer([1]), "is no list of Kubernetes objects", id="no object"),
        pytest.param(json_answer({"items": 7}), "is no list of Kubernetes objects", id="no items"),
        pytest.param(redirects("http://127.0.0.1:1/elsewhere"), "HTTP 307", id="a redirect is not followed"),
        pytest.param(
            status(418, "a\x1b[31mb\nc"), "HTTP 418: a [31mb c", id="a message with a terminal's codes"
        ),
    ],
)
def test_an_answer_that_is_no_list_is_an_error(
    api: Misbehaving, tmp_path: Path, behaviour: Any, message: str
) -> None:
    api.on(PODS, behaviour)
    with pytest.raises(ClusterUnreadable) as caught:
        read(tmp_path, api)
    assert message in str(caught.value)


def test_items_may_be_null_or_of_any_kind(api: Misbehaving, tmp_path: Path) -> None:
    api.on(PODS, json_answer({"kind": "PodList", "items": None}))
    api.on(NODES, json_answer({"items": [7, None, {"status": {"nodeInfo": 3, "images": [{"names": 1}]}}]}))
    assert read(tmp_path, api).uses == ()


@pytest.mark.parametrize("name", ["../secrets", "a/b", "", "Upper"])
def test_a_namespace_cannot_lead_elsewhere(api: Misbehaving, tmp_path: Path, name: str) -> None:
    with pytest.raises(ClusterUnreadable, match="is not a namespace"):
        read(tmp_path, api, name)
    assert not api.seen


@pytest.mark.parametrize(
    ("user", "header"),
    [
        pytest.param({"token": "t0ken"}, "Bearer t0ken", id="a token"),
        pytest.param({"tokenFile": "token"}, "Bearer of-a-file", id="a file with one, beside the kubeconfig"),
        pytest.param({"username": "u", "password": "p"}, "Basic dTpw", id="a password"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_the_login_of_a_user(
    api: Misbehaving, tmp_path: Path, user: dict[str, str], header: str | None
) -> None:
    (tmp_path / "token").write_text("of-a-file\n")
    read(tmp_path, api, **user)
    assert {seen.headers.get("authorization") for seen in api.seen} == {header}


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Misbehaving, Authority]]:
    """Its certificate is for `kubernetes.default`, and it wants one of the client."""
    authority = Authority(tmp_path)
    pair = authority.server(address="192.0.2.1", names=["kubernetes.default"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(authority.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    with misbehaving(context=context) as found:
        yield serve_cluster(found, pods=[pod("p", "app:1")]), authority


@pytest.mark.parametrize("inline", [True, False], ids=["in the kubeconfig", "in files"])
def test_certificates_of_both_sides(
    secure: tuple[Misbehaving, Authority], tmp_path: Path, *, inline: bool
) -> None:
    api, authority = secure
    client = authority.client()
    files = {"client-certificate": client.cert, "client-key": client.key}
    user = {f"{key}-data": data(path) for key, path in files.items()} if inline else _texts(files)
    trusted = (
        {"certificate-authority-data": data(authority.cert)}
        if inline
        else _texts({"certificate-authority": authority.cert})
    )
    path = write_kubeconfig(
        tmp_path, f"https://{api.host}", user, **trusted, **{"tls-server-name": "kubernetes.default"}
    )
    assert {use.image for use in read_cluster(find_access(str(path))).uses} == {"app:1"}


def _texts(paths: dict[str, Path]) -> dict[str, str]:
    return {key: path.name for key, path in paths.items()}


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        pytest.param({}, "CERTIFICATE_VERIFY_FAILED", id="an authority that is not known"),
        pytest.param({"ca": True}, "CERTIFICATE_VERIFY_FAILED", id="a certificate for another name"),
    ],
)
def test_a_server_that_cannot_be_trusted_is_told_nothing(
    secure: tuple[Misbehaving, Authority],
    tmp_path: Path,
    cluster: dict[str, Any],
    message: str,
) -> None:
    api, authority = secure
    trusted = {"certificate-authority-data": data(authority.cert)} if cluster else {}
    path = write_kubeconfig(tmp_path, f"https://{api.host}", {"token": "t0ken"}, **trusted)
    with pytest.raises(ClusterUnreadable, match=message):
        read_cluster(find_access(str(path)))
    assert not api.seen
