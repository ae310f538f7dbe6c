"""A Kubernetes API: a real HTTP server that pages and refuses as the real one does; and its kubeconfig."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from tests.support_behaviours import answers, json_answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

PODS = "/api/v1/pods"
NODES = "/api/v1/nodes"
PATHS = {
    PODS: "PodList",
    NODES: "NodeList",
    "/api/v1/replicationcontrollers": "ReplicationControllerList",
    "/api/v1/podtemplates": "PodTemplateList",
    "/apis/apps/v1/deployments": "DeploymentList",
    "/apis/apps/v1/statefulsets": "StatefulSetList",
    "/apis/apps/v1/daemonsets": "DaemonSetList",
    "/apis/apps/v1/replicasets": "ReplicaSetList",
    "/apis/batch/v1/jobs": "JobList",
    "/apis/batch/v1/cronjobs": "CronJobList",
}


def listed(path: str, items: list[Any], token: str = "") -> dict[str, Any]:
    """As the API answers: the items themselves have no kind."""
    version = path.removeprefix("/apis/").rpartition("/")[0] if path.startswith("/apis") else "v1"
    metadata = {"resourceVersion": "7"} | ({"continue": token} if token else {})
    return {"kind": PATHS[path], "apiVersion": version, "metadata": metadata, "items": items}


def status(code: int, message: str, **headers: str) -> Behaviour:
    """A Status object."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return answers(code, json.dumps(body).encode(), Content_Type="application/json", **headers)


def serve_cluster(api: Misbehaving, **lists: list[Any]) -> Misbehaving:
    """Every list is there; `pods=[...]` and so on say what is in it."""
    for path in PATHS:
        api.on(path, json_answer(listed(path, lists.get(path.rpartition("/")[2], []))))
    return api


def in_pages(path: str, *pages: list[Any]) -> Behaviour:
    """`continue` leads to the next page, and nothing else does."""

    def behave(exchange: Exchange) -> None:
        number = int(exchange.seen.query.get("continue", ["0"])[0])
        following = str(number + 1) if number + 1 < len(pages) else ""
        json_answer(listed(path, pages[number], following))(exchange)

    return behave


def pod(name: str, image: str, **keys: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "main", "image": image}]},
        **keys,
    }


def workload(name: str, image: str, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main", "image": image}]}}
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"template": template, **spec}}


def node(name: str, architecture: str, *images: str) -> dict[str, Any]:
    info = {"operatingSystem": "linux", "architecture": architecture}
    return {
        "metadata": {"name": name},
        "status": {"nodeInfo": info, "images": [{"names": [image]} for image in images]},
    }


def write_kubeconfig(folder: Path, server: str, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(json.dumps(document))
    return path


def data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
