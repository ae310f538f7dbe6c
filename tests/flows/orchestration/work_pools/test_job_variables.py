"""Job variables: of the profile and of the command, held against the template of the work pool."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from flows.orchestration.deployments import Definition, DeploymentError, all_variables, our_deployments
from flows.orchestration.work_pools.job_variables import (
    ensure_work_pool,
    parse_variables,
    require_fit,
)
from registry_server.store.store import Store
from tests.support.command_line import mirrorflow

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from flows.orchestration.work_pools.job_variables import PoolType
    from tests.flows.applying import Apply

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CLAIM = [{"name": "store", "persistentVolumeClaim": {"claimName": "mirror"}}]
MOUNT = [{"name": "store", "mountPath": "/srv/mirror"}]


def unused() -> str:
    return f"pool-{uuid4().hex[:8]}"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param(["image=registry.example/m:1"], {"image": "registry.example/m:1"}, id="text"),
        pytest.param(["stream_output=false"], {"stream_output": False}, id="a boolean"),
        pytest.param(['volumes=["/srv:/srv"]'], {"volumes": ["/srv:/srv"]}, id="a list"),
        pytest.param(["env.A=1", "env.B=x=y"], {"env": {"A": "1", "B": "x=y"}}, id="a section has text"),
        pytest.param(['env={"A": "1"}'], {"env": {"A": "1"}}, id="a whole section"),
        pytest.param(["mem_limit="], {"mem_limit": ""}, id="empty"),
    ],
)
def test_a_job_variable_is_a_name_and_a_value(given: list[str], found: dict[str, Any]) -> None:
    assert parse_variables(given) == found


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param(["image"], "'it' is not NAME=VALUE; write e.g. image=", id="no value"),
        pytest.param(["=x"], "'' is not NAME=VALUE", id="no name"),
        pytest.param(["env..A=x"], "'env..A' is not NAME=VALUE", id="an empty name in it"),
        pytest.param(["env=x", "env.A=y"], "env.A is in a section that another one gives", id="both"),
    ],
)
def test_what_is_no_job_variable_is_refused(given: list[str], error: str) -> None:
    with pytest.raises(DeploymentError, match="--job-variable") as refused:
        parse_variables(given)
    assert error in str(refused.value)


def test_what_a_command_gives_wins_over_the_profile() -> None:
    definition = Definition(
        "x",
        "",
        job_variables={"image": "old", "env": {"A": "1", "B": "2"}},
        given_variables={"image": "new", "env": {"B": "3"}, "mem_limit": "1g"},
    )
    assert all_variables(definition) == {"image": "new", "env": {"A": "1", "B": "3"}, "mem_limit": "1g"}


@pytest.mark.parametrize(
    ("pool_type", "variables", "error"),
    [
        pytest.param("process", {"env": {"A": "1"}, "working_dir": "/srv"}, "", id="process"),
        pytest.param(
            "process",
            {"image": "x"},
            "(process) has no job variable image; it has command, env, labels, name, stream_output",
            id="a process has no image",
        ),
        pytest.param(
            "docker", {"image": "x", "volumes": ["/srv:/srv"], "mem_limit": "2g", "env": {}}, "", id="docker"
        ),
        pytest.param(
            "docker",
            {"volumes": "/srv:/srv"},
            "job variable volumes is not of the type that the template wants",
            id="text for a list",
        ),
        pytest.param(
            "kubernetes",
            {"image": "x", "volumes": CLAIM, "volume_mounts": MOUNT, "memory_limit": "2Gi"},
            "",
            id="kubernetes",
        ),
    ],
)
def test_job_variables_are_held_against_the_template(
    client: SyncPrefectClient, pool_type: PoolType, variables: dict[str, Any], error: str
) -> None:
    pool = ensure_work_pool(client, unused(), pool_type)
    assert pool.type == pool_type
    if not error:
        require_fit(pool, "up", variables)
        return
    with pytest.raises(DeploymentError, match="up: ") as refused:
        require_fit(pool, "up", variables)
    assert error in str(refused.value)


def test_the_template_for_kubernetes_mounts_volumes(client: SyncPrefectClient) -> None:
    """As Prefect fills it in."""
    from prefect.utilities.templating import apply_values

    pool = ensure_work_pool(client, unused(), "kubernetes")
    values = {"image": "x", "volumes": CLAIM, "volume_mounts": MOUNT, "memory_limit": "2Gi"}
    filled = apply_values(pool.base_job_template["job_configuration"], values, remove_notset=True)
    pod = filled["job_manifest"]["spec"]["template"]["spec"]
    assert pod["volumes"] == CLAIM
    assert pod["containers"][0]["volumeMounts"] == MOUNT
    assert pod["containers"][0]["resources"] == {"limits": {"memory": "2Gi"}, "requests": {}}


def test_a_template_without_volumes_says_which_has_them(client: SyncPrefectClient) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    template = client.read_worker_metadata()["prefect-kubernetes"]["kubernetes"]
    found = template["default_base_job_configuration"]
    made = WorkPoolCreate(name=unused(), type="kubernetes", base_job_template=found)
    with pytest.raises(DeploymentError, match="--create-pool kubernetes` makes a pool whose template has"):
        require_fit(client.create_work_pool(made), "up", {"volumes": CLAIM})


def test_a_pool_is_made_once_and_is_not_taken_for_another_type(client: SyncPrefectClient) -> None:
    name = unused()
    with pytest.raises(DeploymentError, match=f"has no work pool '{name}'; it has "):
        ensure_work_pool(client, name, None)
    made = ensure_work_pool(client, name, "docker")
    assert ensure_work_pool(client, name, "docker").id == made.id
    assert ensure_work_pool(client, name, None).id == made.id
    with pytest.raises(DeploymentError, match="is of type docker, not process"):
        ensure_work_pool(client, name, "process")


def test_what_a_command_gave_stays_when_the_profile_is_applied_again(
    client: SyncPrefectClient, apply: Apply
) -> None:
    pool, name = ensure_work_pool(client, unused(), "docker").name, f"entry-{uuid4().hex[:6]}"
    of_profile = {"env": {"A": "1"}, "mem_limit": "1g"}
    given = {"image": "mine", "env": {"B": "2"}}
    apply(Definition(name, "", job_variables=of_profile, given_variables=given), work_pool=pool)
    [applied] = apply(Definition(name, "", job_variables={"env": {"A": "1"}}), work_pool=pool).applied
    assert client.read_deployment(applied.id).job_variables == {"image": "mine", "env": {"A": "1", "B": "2"}}


def test_deploy_makes_the_pool_and_gives_all_entries_the_job_variables(
    client: SyncPrefectClient, prefect_url: str, tmp_path: Path
) -> None:
    entry, pool = f"up-{uuid4().hex[:6]}", unused()
    registry = {"name": entry, "urls": ["http://127.0.0.1:1"], "content": [{"prefix": "**"}], "shards": 2}
    registry["deployment"] = {"jobVariables": {"image": "of-the-profile", "env": {"A": "1"}}}
    profile = tmp_path / "profile.json"
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [registry]}}
    profile.write_text(json.dumps(document))
    options = ["--work-pool", pool, "--create-pool", "docker", "-j", "image=of-the-command", "-j", "env.B=2"]
    done = mirrorflow("deploy", profile, *options, PREFECT_API_URL=prefect_url)
    assert done.returncode == 0, done.stderr
    found = our_deployments(client, Store.open(tmp_path / "store").uuid)
    assert [each.name for each in found] == [f"{entry}:1-of-2", f"{entry}:2-of-2"]
    for each in found:
        assert each.job_variables["image"] == "of-the-command"
        assert each.job_variables["env"] == {"A": "1", "B": "2", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        assert each.work_pool_name == pool
        limit = each.global_concurrency_limit
        assert limit is not None
        assert limit.limit == 1
    refused = mirrorflow("deploy", profile, "--work-pool", pool, "-j", "ram=1", PREFECT_API_URL=prefect_url)
    assert refused.returncode == 1
    assert "has no job variable ram" in refused.stderr


def test_the_form_of_a_deployment_is_for_people(client: SyncPrefectClient, apply: Apply) -> None:
    name = f"entry-{uuid4().hex[:6]}"
    parameters = {"profile": "/p.yaml", "registry": name, "shard": "1/2"}
    [applied] = apply(Definition(f"{name}:1-of-2", "", parameters=parameters)).applied
    form = client.read_deployment(applied.id).parameter_openapi_schema
    assert form is not None
    asked = form["properties"]
    assert [asked[each]["title"] for each in ("profile", "registry", "only", "shard")] == [
        "Profile",
        "Registry entry",
        "Only these images (none: all)",
        "Shard of the registry entry",
    ]
    assert asked["registry"]["enum"] == [name], "what a deployment is for cannot be chosen otherwise"
    assert asked["shard"]["enum"] == ["1/2"]
    assert "enum" not in asked["profile"]
