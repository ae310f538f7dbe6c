"""The Helm chart, rendered by helm: what Kubernetes is given, and what the chart refuses."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml

from flows.cli.app import app
from profiles.loader import parse_profile
from tests.deploy.kubernetes_schema import KubernetesSchema, find_document

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
CHART = HERE.parents[1] / "deploy/helm/mirrorflow"
FULL = HERE / "full-values.yaml"
GOLDEN = HERE / "golden.yaml"
PROFILE = '{"storage":{"rootDirectory":"/data"},"sync":{"registries":[]}}'

pytestmark = pytest.mark.skipif(
    shutil.which("helm") is None, reason="helm is not installed; https://helm.sh/docs/intro/install"
)


@lru_cache
def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False, timeout=60)


def template(*options: str) -> subprocess.CompletedProcess[str]:
    return helm("template", "m", str(CHART), "--namespace", "mirrors", "--kube-version", "1.31.0", *options)


def objects(*options: str) -> list[dict[str, Any]]:
    done = template(*options)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def full() -> list[dict[str, Any]]:
    return objects("--values", str(FULL))


def pods(found: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod templates, by what they are of."""
    for each in found:
        spec = each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield each["kind"], spec["template"]


SETS = [pytest.param((), id="default"), pytest.param(("--values", str(FULL)), id="everything")]


@pytest.mark.parametrize("options", SETS)
def test_helm_finds_nothing_to_complain_about(options: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", str(CHART), *options)
    assert done.returncode == 0, done.stdout


def test_what_the_chart_makes_is_what_it_made_before() -> None:
    """A change of the chart shows in golden.yaml: write it anew by the command that the assertion shows."""
    again = f"helm template m {CHART} --namespace mirrors --kube-version 1.31.0 --values {FULL} > {GOLDEN}"
    assert template("--values", str(FULL)).stdout == GOLDEN.read_text(), again


@pytest.mark.parametrize("options", SETS)
def test_kubernetes_knows_every_field(options: tuple[str, ...]) -> None:
    document = find_document()
    if document is None or not document.is_file():
        pytest.skip("there is no OpenAPI document of Kubernetes; see tests/deploy/kubernetes_schema.py")
    schema = KubernetesSchema(document)
    ours = [each for each in objects(*options) if not each["apiVersion"].startswith("monitoring.coreos.com/")]
    assert len(ours) >= 5
    assert [problem for each in ours for problem in schema.problems(each)] == []


def test_the_check_of_fields_finds_what_is_wrong() -> None:
    document = find_document()
    if document is None or not document.is_file():
        pytest.skip("there is no OpenAPI document of Kubernetes; see tests/deploy/kubernetes_schema.py")
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": "80", "prot": 1}, {}]}}
    assert KubernetesSchema(document).problems(service) == [
        "Service.spec.ports[0].port: '80' is no integer",
        "Service.spec.ports[0]: prot is not known",
        "Service.spec.ports[1]: port is missing",
    ]


@pytest.mark.parametrize("options", SETS)
def test_no_pod_is_root_or_can_write_to_its_image(options: tuple[str, ...]) -> None:
    found = list(pods(objects(*options)))
    assert found
    for _, pod in found:
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["automountServiceAccountToken"] is False
        for container in pod["spec"]["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]


@pytest.mark.parametrize("options", SETS)
def test_every_mount_has_its_volume(options: tuple[str, ...]) -> None:
    for _, pod in pods(objects(*options)):
        volumes = {each["name"] for each in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            mounts = [each["name"] for each in container["volumeMounts"]]
            assert set(mounts) == volumes
            assert len(mounts) == len(set(mounts))


@pytest.mark.parametrize("options", SETS)
def test_selectors_select_pods_of_the_chart(options: tuple[str, ...]) -> None:
    found = objects(*options)
    labels = [pod["metadata"]["labels"] for _, pod in pods(found)]
    for each in found:
        selector = each.get("spec", {}).get("selector", {})
        wanted = selector.get("matchLabels", selector)
        if each["kind"] in {"Service", "StatefulSet", "Deployment", "PodDisruptionBudget"}:
            assert [pod for pod in labels if wanted.items() <= pod.items()], each["metadata"]["name"]


def test_clients_reach_every_pod_that_serves_and_no_other() -> None:
    found = full()
    service = next(each for each in found if each["kind"] == "Service")
    served = [
        pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for _, pod in pods(found)
        if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ]
    assert sorted(served) == ["mirror", "serve"]


@pytest.mark.parametrize("options", SETS)
def test_containers_start_commands_that_there_are(options: tuple[str, ...]) -> None:
    root: Any = typer.main.get_command(app)
    for _, pod in pods(objects(*options)):
        for container in pod["spec"]["containers"]:
            if "command" not in container:  # the image's entrypoint is `mirrorflow`
                first, *rest = container["args"]
                command = root.commands[first]
                assert not rest or rest[0] in command.commands


@pytest.mark.parametrize("options", SETS)
def test_the_profile_in_the_config_map_loads(options: tuple[str, ...]) -> None:
    found = next(each for each in objects(*options) if each["kind"] == "ConfigMap")
    profile = parse_profile(
        found["data"]["profile.yaml"], Path("/etc/mirrorflow/profile/profile.yaml")
    ).profile
    assert str(profile.storage.root_directory) == "/data"


@pytest.mark.parametrize(
    ("options", "command"),
    [
        pytest.param((), "up", id="one pod does all"),
        pytest.param(("--values", str(FULL)), "serve", id="with workers it only serves"),
    ],
)
def test_what_the_mirror_itself_runs(options: tuple[str, ...], command: str) -> None:
    found = next(each for each in objects(*options) if each["kind"] == "StatefulSet")
    assert found["spec"]["template"]["spec"]["containers"][0]["args"] == [command]


def test_a_change_of_the_profile_starts_the_pods_anew() -> None:
    def checksum(*options: str) -> str:
        (_, pod) = next(pods(objects(*options)))
        return str(pod["metadata"]["annotations"]["checksum/profile"])

    assert checksum() != checksum("--set", "profile.sync.enable=false")


def test_what_is_mirrored_outlives_the_release() -> None:
    claim = next(each for each in objects() if each["kind"] == "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not [
        each for each in objects("--set", "persistence.existingClaim=mine") if each["kind"] == claim["kind"]
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            ["serve.replicas=2"], "need persistence.accessModes: [ReadWriteMany]", id="one node's volume"
        ),
        pytest.param(
            ["workers.replicas=2", "persistence.accessModes={ReadWriteMany}"],
            "needs prefect.apiUrl",
            id="workers without a server",
        ),
        pytest.param(
            ["prefect.ui.enabled=true", "prefect.apiUrl=http://p:4200/api"],
            "drop one of the two",
            id="two servers",
        ),
        pytest.param(["replicas=2"], "replicas", id="an unknown key"),
        pytest.param(["persistence.sise=1Gi"], "sise", id="a misspelled key"),
        pytest.param(["prefect.apiUrl=prefect:4200"], "apiUrl", id="a URL without /api"),
        pytest.param(["image.digest=latest"], "digest", id="a tag as a digest"),
        pytest.param(["service.port=0"], "port", id="no port"),
    ],
)
def test_what_cannot_work_is_refused(options: list[str], message: str) -> None:
    done = template(*(part for option in options for part in ("--set", option)))
    assert done.returncode != 0
    assert message in done.stderr
