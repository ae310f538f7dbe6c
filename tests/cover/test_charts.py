"""The images of Helm charts, rendered by helm itself; charts of the shapes that public ones have."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.cover.charts import ChartNotRendered, uses_of_chart
from tests.clients.conftest import optional_program
from tests.support.registries import running_registry

CHARTS = Path(__file__).parent / "charts"


@pytest.fixture(scope="module")
def helm() -> str:
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed; https://helm.sh/docs/intro/install")
    return optional_program("helm", "it is a program of its own")


@pytest.mark.parametrize(
    ("chart", "expected"),
    [
        pytest.param(
            "ingress",
            {
                "registry.k8s.io/ingress/controller:v1.12.0": "Deployment cover-controller, "
                "container controller",
                "registry.k8s.io/ingress/certgen:v1.5.0": "Job cover-admission-create, container create",
            },
            id="hooks count, because nothing starts without them",
        ),
        pytest.param(
            "monitoring",
            {
                "quay.io/prometheus-operator/prometheus-operator:v0.79.0": "Deployment cover-operator, "
                "container operator",
                "quay.io/prometheus-operator/prometheus-config-reloader:v0.79.0": "Deployment "
                "cover-operator, container operator, named in an argument",
                "quay.io/prometheus/prometheus:v3.0.0": "Prometheus cover, image",
                "quay.io/prometheus/node-exporter:v1.8.2": "DaemonSet cover-exporter, container exporter",
                "busybox": "Pod cover-test, container test",
            },
            id="a subchart, a custom resource, an argument",
        ),
        pytest.param(
            "database",
            {
                "docker.io/team/os-shell:12-r1": "StatefulSet cover, init container permissions",
                "docker.io/team/database:17.2.0-r1": "StatefulSet cover, container database",
            },
            id="what is off is not used",
        ),
    ],
)
@pytest.mark.usefixtures("helm")
def test_the_images_of_a_chart(chart: str, expected: dict[str, str]) -> None:
    found = {use.image: use.place for use in uses_of_chart(str(CHARTS / chart))}
    assert found == {image: f"chart {chart}: {place}" for image, place in expected.items()}


@pytest.mark.usefixtures("helm")
def test_values_change_what_is_used(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("global: {imageRegistry: mirror.example}\nbackup: {enabled: true}\n")
    found = {use.image for use in uses_of_chart(str(CHARTS / "database"), values=[values])}
    assert found == {
        "mirror.example/team/database:17.2.0-r1",
        "mirror.example/team/os-shell:12-r1",
        "quay.io/team/uploader:v2",
    }


def test_a_chart_in_a_registry_is_used_itself(helm: str, tmp_path: Path) -> None:
    """Pushed by helm to a registry, and rendered from there; a `+` of its version is a `_` in its tag."""
    (tmp_path / "log").mkdir()
    with running_registry(tmp_path / "log", writable=True) as registry:
        _push(helm, tmp_path, registry.host)
        chart = f"oci://{registry.host}/charts/monitoring"
        found = {use.image for use in uses_of_chart(chart)}
    assert f"{registry.host}/charts/monitoring:60.0.0_build.1" in found
    assert "quay.io/prometheus/prometheus:v3.0.0" in found


def test_a_chart_in_a_registry_may_be_named_with_its_tag(helm: str, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with running_registry(tmp_path / "log", writable=True) as registry:
        _push(helm, tmp_path, registry.host, CHARTS / "ingress")
        chart = f"{registry.host}/charts/ingress"
        found = {use.image for use in uses_of_chart(f"oci://{chart}:1.2.0")}
        assert f"{chart}:1.2.0" in found
        assert found == {use.image for use in uses_of_chart(f"oci://{chart}", version="1.2.0")}


def test_what_helm_says_of_a_chart_is_read_as_texts(helm: str, tmp_path: Path) -> None:
    """It writes plainly what YAML 1.1 takes for a date or for another type."""
    (tmp_path / "log").mkdir()
    chart = tmp_path / "odd"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(
        "apiVersion: v2\nname: odd\nversion: 1.0.0\nappVersion: 2024-13-45\nannotations: {sign: '='}\n"
    )
    with running_registry(tmp_path / "log", writable=True) as registry:
        _push(helm, tmp_path, registry.host, chart)
        found = {use.image for use in uses_of_chart(f"oci://{registry.host}/charts/odd")}
    assert found == {f"{registry.host}/charts/odd:1.0.0"}


def _push(helm: str, folder: Path, host: str, chart: Path = CHARTS / "monitoring") -> None:
    package = [helm, "package", str(chart), "-d", str(folder)]
    subprocess.run(package, check=True, capture_output=True)
    (made,) = folder.glob("*.tgz")
    push = [helm, "push", str(made), f"oci://{host}/charts", "--plain-http"]
    subprocess.run(push, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("chart", "message"),
    [
        pytest.param("/no/such/chart", "helm refuses it", id="missing"),
        pytest.param("--kubeconfig=/etc/passwd", "helm refuses it", id="what looks like an option is none"),
    ],
)
@pytest.mark.usefixtures("helm")
def test_a_chart_that_helm_refuses(chart: str, message: str) -> None:
    with pytest.raises(ChartNotRendered, match=message):
        list(uses_of_chart(chart))


def test_a_chart_with_a_mistake_says_where(helm: str, tmp_path: Path) -> None:
    assert helm
    shutil.copytree(CHARTS / "ingress", tmp_path / "chart")
    (tmp_path / "chart/templates/broken.yaml").write_text("a: {{ .Values.no.such.key }}\n")
    with pytest.raises(ChartNotRendered, match=r"broken\.yaml"):
        list(uses_of_chart(str(tmp_path / "chart")))


def test_without_helm_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ChartNotRendered, match=r"helm template CHART > rendered\.yaml"):
        list(uses_of_chart(str(CHARTS / "ingress")))
    assert os.environ["PATH"] == str(tmp_path)
