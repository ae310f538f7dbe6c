"""What a running cluster uses, and what its nodes are: the Kubernetes API, read only.

https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
"""

from __future__ import annotations

import json
import re
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx

from flows.cover.cluster_client import cluster_client
from flows.cover.used_images import Use, object_name, uses_of
from registry_server.oci.descriptor import Platform
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.cover.kubeconfig import ClusterAccess

_PAGE: Final = 250  # objects of one answer
_MOST_BYTES: Final = 128 * 2**20  # of one answer
_TRIES: Final = 4
_WAIT: Final = 1.0  # seconds before the second try; each further one waits twice as long
_LONGEST_WAIT: Final = 30.0
# Some own others: the same images are found in a Deployment and in its ReplicaSet, and are counted once.
_WORKLOADS: Final = {
    "Pod": "api/v1/{}pods",
    "ReplicationController": "api/v1/{}replicationcontrollers",
    "PodTemplate": "api/v1/{}podtemplates",
    "Deployment": "apis/apps/v1/{}deployments",
    "StatefulSet": "apis/apps/v1/{}statefulsets",
    "DaemonSet": "apis/apps/v1/{}daemonsets",
    "ReplicaSet": "apis/apps/v1/{}replicasets",
    "Job": "apis/batch/v1/{}jobs",
    "CronJob": "apis/batch/v1/{}cronjobs",
}
# No API names the image of the sandbox of pods; the kubelet lists it among the images of its node.
_SANDBOX: Final = re.compile(r".+/pause(?:-[a-z0-9]+)?:[^@]+")
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class ClusterUnreadable(MirrorflowError):
    """The API does not answer, or does not let us look."""


@dataclass(frozen=True, slots=True)
class ClusterUse:
    """`not_read`: kinds of objects that the user may not list, with the reason; `platforms` of the nodes."""

    uses: tuple[Use, ...]
    platforms: tuple[Platform, ...] = ()
    nodes: int = 0
    not_read: tuple[str, ...] = ()


def read_cluster(access: ClusterAccess, namespaces: tuple[str, ...] = ()) -> ClusterUse:
    """The images of all pods and workloads, of all namespaces or of these. Raises `ClusterUnreadable`."""
    for name in namespaces:
        if not _NAMESPACE.fullmatch(name):
            raise ClusterUnreadable(f"--namespace: {name!r} is not a namespace")
    with cluster_client(access) as client:
        reader = _Reader(client, access.name)
        uses = [
            use
            for place in [f"namespaces/{name}/" for name in namespaces] or [""]
            for kind, path in _WORKLOADS.items()
            for item in reader.objects(kind, path.format(place))
            if not _is_leftover(item)
            for use in uses_of(item)
        ]
        nodes = list(reader.objects("Node", "api/v1/nodes"))
    return ClusterUse(
        (*uses, *(use for node in nodes for use in _sandbox(node))),
        tuple(sorted({platform for node in nodes if (platform := _platform(node))})),
        len(nodes),
        tuple(reader.not_read),
    )


@dataclass(slots=True)
class _Reader:
    client: httpx.Client
    cluster: str
    not_read: list[str] = field(default_factory=list)

    def objects(self, kind: str, path: str) -> Iterator[dict[str, Any]]:
        """Every object of a list, page by page. What the API does not have is an empty list."""
        parameters = {"limit": str(_PAGE)}
        while True:
            answer, body = self._get(path, parameters)
            if answer.status_code == 410 and "continue" in parameters:
                # The list changed too long ago; images are counted once, so beginning again loses nothing.
                parameters = {"limit": "0"}
                continue
            if answer.status_code == 404:
                return
            if answer.status_code == 403:
                self.not_read.append(f"{path}: the user may not list them ({_message(body)})")
                return
            document = self._checked(answer, body, path)
            for item in document["items"]:
                if isinstance(item, dict):
                    # A list says once what its items are (API conventions, "Lists and Simple kinds").
                    yield {"kind": kind, "apiVersion": document.get("apiVersion", "v1"), **item}
            metadata = document.get("metadata")
            token = metadata.get("continue") if isinstance(metadata, dict) else None
            if not token or token == parameters.get("continue"):
                return
            parameters = {"limit": str(_PAGE), "continue": str(token)}

    def _checked(self, answer: httpx.Response, body: bytes, path: str) -> dict[str, Any]:
        if answer.status_code == 401:
            raise ClusterUnreadable(
                f"{self.cluster}: the cluster refuses the credentials (401); log in again"
            )
        if answer.status_code != 200:
            raise ClusterUnreadable(f"{self.cluster}: {path}: HTTP {answer.status_code}: {_message(body)}")
        document = _json(body)
        items = document.get("items", 0) if isinstance(document, dict) else 0
        if not isinstance(items, list | None):
            raise ClusterUnreadable(f"{self.cluster}: {path}: the answer is no list of Kubernetes objects")
        return {**document, "items": items or []}  # an empty list of Go is null in JSON

    def _get(self, path: str, parameters: dict[str, str]) -> tuple[httpx.Response, bytes]:
        """Again after 429 and 5xx, as the API asks for (API priority and fairness)."""
        wait = _WAIT
        for number in range(1, _TRIES + 1):
            try:
                answer, body = self._once(path, parameters)
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last of a host's name
                if number == _TRIES or _is_final(error):
                    said = str(error) or type(error).__name__
                    raise ClusterUnreadable(
                        f"{self.cluster}: {self.client.base_url} cannot be asked: {said}"
                    ) from error
            else:
                if number == _TRIES or (answer.status_code != 429 and answer.status_code < 500):
                    return answer, body
                wait = _asked_for(answer, wait)
            time.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    def _once(self, path: str, parameters: dict[str, str]) -> tuple[httpx.Response, bytes]:
        body = bytearray()
        with self.client.stream("GET", path, params=parameters) as answer:
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise ClusterUnreadable(
                        f"{self.cluster}: {path}: an answer of more than {_MOST_BYTES} bytes"
                    )
        return answer, bytes(body)


def _asked_for(answer: httpx.Response, otherwise: float) -> float:
    """Seconds, by Retry-After (RFC 9110 section 10.2.3), as far as they are short."""
    text = answer.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT) if text.isdecimal() else otherwise


def _is_final(error: Exception) -> bool:
    """Whether it stays so: a server that cannot be trusted, or has no name, is not asked again."""
    if isinstance(error, UnicodeError | httpx.InvalidURL):
        return True
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLCertVerificationError):
        found = found.__cause__ or found.__context__
    return found is not None


def _is_leftover(item: dict[str, Any]) -> bool:
    """An older version of a Deployment, kept for a rollback."""
    spec = item.get("spec")
    return item["kind"] == "ReplicaSet" and isinstance(spec, dict) and spec.get("replicas") == 0


def _platform(node: dict[str, Any]) -> Platform | None:
    """As the kubelet says; of arm it does not say the variant."""
    info = _below(node, "status", "nodeInfo")
    system, architecture = str(info.get("operatingSystem") or ""), str(info.get("architecture") or "")
    return Platform(system, architecture) if system and architecture else None


def _sandbox(node: dict[str, Any]) -> Iterator[Use]:
    images = _below(node, "status").get("images")
    for image in images if isinstance(images, list) else ():
        names = image.get("names") if isinstance(image, dict) else None
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str) and _SANDBOX.fullmatch(name):
                yield Use(name, f"{object_name(node)}, sandbox of its pods")


def _below(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        found = document.get(key)
        document = found if isinstance(found, dict) else {}
    return document


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _message(body: bytes) -> str:
    """What a Status object says, on one line."""
    document = _json(body[:65_536])
    text = str(document.get("message", "")) if isinstance(document, dict) else ""
    return "".join(each if each.isprintable() else " " for each in text)[:200] or "no reason given"
