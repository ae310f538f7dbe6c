"""Which images Kubernetes objects, Compose files and lists name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from flows.cover.files import ManifestsUnreadable, uses_of_list, uses_of_manifests, uses_of_text
from flows.cover.used_images import parse_image, used_images, uses_of

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = f"sha256:{'a' * 64}"


def found(text: str) -> list[tuple[str, str]]:
    return [(use.image, use.place) for use in uses_of_text(text, "test")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "{kind: Pod, metadata: {name: a, namespace: n}, spec: {containers: [{name: c, image: app:1}]}}",
            [("app:1", "Pod n/a, container c")],
            id="a pod",
        ),
        pytest.param(
            "{kind: Pod, metadata: {name: a}, spec: {containers: [], initContainers: [{name: i, image: i:1}],"
            " ephemeralContainers: [{name: e, image: e:1}]}}",
            [("i:1", "Pod a, init container i"), ("e:1", "Pod a, ephemeral container e")],
            id="init and ephemeral containers",
        ),
        pytest.param(
            "{kind: CronJob, apiVersion: batch/v1, metadata: {name: j}, spec: {jobTemplate: {spec: {template:"
            " {spec: {containers: [{name: c, image: job:1}]}}}}}}",
            [("job:1", "CronJob j, container c")],
            id="a template in a template",
        ),
        pytest.param(
            "{kind: List, items: [{kind: Pod, metadata: {name: a}, spec: {containers: [{image: a:1}]}}, 7]}",
            [("a:1", "Pod a, container")],
            id="a list, also with something that is no object",
        ),
        pytest.param(
            "{kind: Pod, metadata: {name: a}, "
            "spec: {volumes: [{name: v, image: {reference: 'r.io/m/x:1'}}]}}",
            [("r.io/m/x:1", "Pod a, volume v")],
            id="a volume that is an image",
        ),
        pytest.param(
            "{kind: Prometheus, apiVersion: monitoring.coreos.com/v1, metadata: {name: k}, "
            "spec: {image: quay.io/prometheus/prometheus:v3.0.0}}",
            [("quay.io/prometheus/prometheus:v3.0.0", "Prometheus k, image")],
            id="a custom resource",
        ),
        pytest.param(
            "{kind: Rollout, apiVersion: argoproj.io/v1alpha1, metadata: {name: r}, spec: {template: "
            "{spec: {containers: [{name: c, image: app:1}]}}}}",
            [("app:1", "Rollout r, container c")],
            id="a custom resource with a pod template",
        ),
        pytest.param(
            "{kind: Deployment, apiVersion: apps/v1, metadata: {name: o}, "
            "spec: {template: {spec: {containers: [{name: c, image: op:1, "
            "args: ['--reloader=quay.io/x/reloader:v1.2', '--addr=db.local:5432'], "
            f"env: [{{name: I, value: 'ghcr.io/x/y@{DIGEST}'}}]}}]}}}}}}}}",
            [
                ("op:1", "Deployment o, container c"),
                ("quay.io/x/reloader:v1.2", "Deployment o, container c, named in an argument"),
                (f"ghcr.io/x/y@{DIGEST}", "Deployment o, container c, named in an argument"),
            ],
            id="images that an operator is told of",
        ),
        pytest.param(
            "{kind: ConfigMap, apiVersion: v1, metadata: {name: c}, data: {image: a/b:1}}",
            [],
            id="a ConfigMap may say anything",
        ),
        pytest.param(
            "{kind: Panel, apiVersion: x.example/v1, metadata: {name: c}, spec: {image: img/logo.png}}",
            [],
            id="a picture of a custom resource",
        ),
        pytest.param(
            "services: {web: {image: nginx}, built: {build: .}}",
            [("nginx", "test, service web")],
            id="Compose",
        ),
        pytest.param(
            "kind: CustomResourceDefinition\nspec: {enum: ['!=', =, =~]}\n---\n"
            "kind: Pod\nmetadata: {name: a, labels: {built: 2024-13-45}}\n"
            "spec: {containers: [{image: a:1}]}\n",
            [("a:1", "Pod a, container")],
            id="texts that YAML 1.1 has types for, as helm prints them",
        ),
        pytest.param("---\n---\n", [], id="empty documents"),
        pytest.param("[1, {kind: Pod}]", [], id="no object"),
        pytest.param("{kind: Pod, spec: {containers: [7, {image: 3}, {image: ' '}]}}", [], id="no images"),
    ],
)
def test_the_images_of_a_document(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("argument", "taken"),
    [
        pytest.param("--image=quay.io/a/b:v1", True, id="an option with a value"),
        pytest.param("registry.k8s.io/pause:3.10", True, id="a version with a dot"),
        pytest.param("127.0.0.1:5000/a:latest", True, id="a registry with a port"),
        pytest.param("https://quay.io/a/b:v1", False, id="a URL"),
        pytest.param("db.example.com:5432", False, id="a host with a port"),
        pytest.param("api.example.com/v1:8080", False, id="a path with what may be a port"),
        pytest.param("nginx:1.25", False, id="without a host it may be anything"),
        pytest.param("quay.io/a/b", False, id="without a tag it may be a path"),
    ],
)
def test_what_an_argument_must_look_like_to_be_taken_for_an_image(argument: str, *, taken: bool) -> None:
    pod = {"kind": "Pod", "spec": {"containers": [{"name": "c", "args": [argument]}]}}
    assert bool(list(uses_of(pod))) is taken


@pytest.mark.parametrize(
    ("written", "means"),
    [
        pytest.param("nginx", "docker.io/library/nginx:latest", id="Docker's own"),
        pytest.param("bitnami/redis:7", "docker.io/bitnami/redis:7", id="Docker Hub"),
        pytest.param(
            "index.docker.io/library/nginx:1", "docker.io/library/nginx:1", id="another name of Docker Hub"
        ),
        pytest.param("localhost/a", "localhost/a:latest", id="localhost is a host"),
        pytest.param("quay.io/a/b:1@" + DIGEST, "quay.io/a/b@" + DIGEST, id="a digest wins over a tag"),
        pytest.param("Upper/Case", "Upper/Case", id="not a name"),
        pytest.param("a b", "a b", id="not a name, with a space"),
        pytest.param("quay.io/a@sha256:12", "quay.io/a@sha256:12", id="not a digest"),
        pytest.param("quay.io/", "quay.io/", id="no repository"),
        pytest.param("${IMAGE}:1", "${IMAGE}:1", id="a variable that nobody replaced"),
    ],
)
def test_an_image_is_read_as_container_runtimes_read_it(written: str, means: str) -> None:
    (image,) = used_images(uses_of({"kind": "Pod", "spec": {"containers": [{"image": written}]}}))
    assert image.full_name == means
    assert (parse_image(written) is None) is (written == means and ":latest" not in means)


def test_an_image_that_many_use_is_one_with_all_its_places() -> None:
    text = "\n---\n".join(
        f"{{kind: Pod, metadata: {{name: p{number}}}, spec: {{containers: [{{image: {image}}}]}}}}"
        for number, image in enumerate(("nginx", "docker.io/library/nginx:latest", "nginx"))
    )
    (image,) = used_images(uses_of_text(text, "test"))
    assert image.written == "nginx"
    assert image.places == ("Pod p0, container", "Pod p1, container", "Pod p2, container")


def test_a_pod_says_which_digest_runs() -> None:
    pod: dict[str, Any] = {
        "kind": "Pod",
        "spec": {"containers": [{"name": "c", "image": "quay.io/a:1"}]},
        "status": {"containerStatuses": [{"name": "c", "imageID": f"quay.io/a@{DIGEST}"}]},
    }
    (image,) = used_images(uses_of(pod))
    assert image.running == {DIGEST}


def test_a_folder_is_read_with_its_folders(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.yaml", "below/b.json", "notes.txt"):
        (tmp_path / name).write_text(
            '{"kind": "Pod", "spec": {"containers": [{"image": "' + name[0] + ':1"}]}}'
        )
    assert [use.image for use in uses_of_manifests(tmp_path)] == ["a:1", "b:1"]


def test_a_list_of_images_may_have_comments(tmp_path: Path) -> None:
    path = tmp_path / "images.txt"
    path.write_text("# of the shop\nnginx:1.27  # web\n\nquay.io/a/b:2\n")
    assert [(use.image, use.place) for use in uses_of_list(path)] == [
        ("nginx:1.27", f"{path}:2"),
        ("quay.io/a/b:2", f"{path}:4"),
    ]


def _laughs() -> str:
    """Aliases of aliases: 10^9 containers, were they all looked at."""
    lines = ["a0: &a0 {containers: [{image: x:1}]}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "kind: Pod\n" + "\n".join(lines)


def test_aliases_of_aliases_are_looked_at_once() -> None:
    assert [image for image, _ in found(_laughs())] == ["x:1"]


def test_nesting_is_not_followed_without_end() -> None:
    nested: Any = {"containers": [{"image": "deep:1"}]}
    for _ in range(300):
        nested = {"spec": nested}
    assert list(uses_of({"kind": "Pod", **nested})) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: path, "there is no such file", id="missing"),
        pytest.param(lambda path: path.mkdir() or path, "there is no file *.yaml", id="an empty folder"),
        pytest.param(
            lambda path: [path.mkdir(), (path / "Chart.yaml").write_text("name: x"), path][-1],
            "give it with --chart",
            id="a chart",
        ),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe\x00") and path, "not UTF-8", id="not text"),
        pytest.param(
            lambda path: path.write_text("a: {{ .Values.image }}:\n  - b") and path,
            "template of Helm",
            id="a template",
        ),
        pytest.param(
            lambda path: path.write_text("a: [1\nb: 2") and path, ":2:", id="not YAML, with its place"
        ),
        pytest.param(lambda path: path.write_text("[" * 100_000) and path, "manifests", id="an attack"),
        pytest.param(
            lambda path: path.write_text("!!python/object/apply:os.system [true]") and path,
            "not YAML",
            id="a program",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "manifests"
    with pytest.raises(ManifestsUnreadable) as caught:
        list(uses_of_manifests(make(path)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_loader_is_one_that_makes_no_objects() -> None:
    assert issubclass(yaml.CSafeLoader, yaml.constructor.SafeConstructor)
