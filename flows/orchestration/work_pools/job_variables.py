"""Job variables: what the template of a work pool lets a deployment choose (image, env, volumes, memory).

The profile has them for an entry (`deployment.jobVariables`), `deploy --job-variable NAME=VALUE` for all of
its entries. Both are held against the template before anything is registered, because Prefect's server
answers a variable that does not fit with a bare 409.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final, Literal

from flows.orchestration.deployments import DeploymentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import WorkPool

PoolType = Literal["process", "docker", "kubernetes"]
_SECTION: Final = "."  # in `env.HTTPS_PROXY`
# Of Kubernetes' PodSpec and Container. Prefect's own template has no place for a volume, and without one a
# pod has no store.
_VOLUMES: Final[dict[str, dict[str, Any]]] = {
    "volumes": {
        "title": "Volumes",
        "description": "Volumes of the pod, as in Kubernetes' PodSpec: the store, the profile, credentials.",
        "type": "array",
        "items": {"type": "object"},
        "default": [],
    },
    "volume_mounts": {
        "title": "Volume mounts",
        "description": "Where the container has these volumes, as in Kubernetes' Container.",
        "type": "array",
        "items": {"type": "object"},
        "default": [],
    },
}


def parse_variables(given: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE`, each: a dot in the name leads into a section (`env.HTTPS_PROXY=...`), a value that is a
    JSON list, object, number or boolean is that, anything else is text. Raises `DeploymentError`.
    """
    found: dict[str, Any] = {}
    for each in given:
        name, separator, value = each.partition("=")
        path = name.split(_SECTION)
        if not separator or not all(path):
            shown = name if separator else "it"  # a value may be a secret
            raise DeploymentError(
                f"--job-variable: {shown!r} is not NAME=VALUE; write e.g. "
                "image=registry.example/mirrorflow:1, or env.HTTPS_PROXY=http://proxy.example:3128"
            )
        _put(found, path, _value(value, is_env=path[0] == "env"))
    return found


def _put(found: dict[str, Any], path: Sequence[str], value: Any) -> None:
    section = found
    for name in path[:-1]:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise DeploymentError(
                f"--job-variable: {_SECTION.join(path)} is in a section that another one gives as a value; "
                "give it once"
            )
    section[path[-1]] = value


def _value(text: str, *, is_env: bool) -> Any:
    if is_env and not text.startswith("{"):  # a variable of the environment is text
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def require_fit(pool: WorkPool, name: str, variables: Mapping[str, Any]) -> None:
    """Raises `DeploymentError` for variables of the deployment `name` that the template does not take."""
    schema = pool.base_job_template.get("variables") or {}
    known = schema.get("properties") or {}
    if not known:  # a template of the user's own, in which anything goes
        return
    if unknown := sorted(variables.keys() - known.keys()):
        raise DeploymentError(
            f"{name}: the work pool {pool.name!r} ({pool.type}) has no job variable {', '.join(unknown)}; it "
            f"has {', '.join(sorted(known))}" + _volumes_hint(pool, unknown)
        )
    for problem in _problems(schema, variables):
        raise DeploymentError(f"{name}: job variable {problem} (work pool {pool.name!r})")


def _volumes_hint(pool: WorkPool, unknown: Iterable[str]) -> str:
    if pool.type != "kubernetes" or not set(unknown) & _VOLUMES.keys():
        return ""
    return "; `deploy --create-pool kubernetes` makes a pool whose template has volumes"


def _problems(schema: Mapping[str, Any], variables: Mapping[str, Any]) -> Iterable[str]:
    """Without values: they may be secrets."""
    from prefect.utilities.schema_tools.validation import validate

    wanted = copy.deepcopy(dict(schema))
    errors = validate(dict(variables), wanted, raise_on_error=False, preprocess=True, ignore_required=True)
    for error in errors:
        where = _SECTION.join(map(str, error.absolute_path)) or "?"
        kinds = error.schema.get("type") or [each.get("type") for each in error.schema.get("anyOf", ())]
        yield f"{where} is not of the type that the template wants: {kinds}"


def ensure_work_pool(client: SyncPrefectClient, name: str, create: PoolType | None) -> WorkPool:
    """The pool; made if `create` gives its type and there is none.

    Raises `DeploymentError` where there is none, or one of another type.
    """
    from prefect.exceptions import ObjectNotFound

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        if create is None:
            raise _no_pool(client, name) from None
        return _create(client, name, create)
    if create is not None and pool.type != create:
        raise DeploymentError(
            f"the work pool {name!r} is of type {pool.type}, not {create}: name another pool, or leave out "
            "--create-pool"
        )
    return pool


def _no_pool(client: SyncPrefectClient, name: str) -> DeploymentError:
    """Prefect answers an unknown pool with a bare 404, and in an update with an error of its own."""
    pools = ", ".join(sorted(pool.name for pool in client.read_work_pools())) or "none"
    return DeploymentError(
        f"the Prefect server has no work pool {name!r}; it has {pools}: name one of them, or make it with "
        f"--create-pool process, or with `prefect work-pool create --type process {name}`"
    )


def _create(client: SyncPrefectClient, name: str, pool_type: PoolType) -> WorkPool:
    from prefect.client.schemas.actions import WorkPoolCreate

    template = template_of(client.read_worker_metadata(), pool_type)
    return client.create_work_pool(WorkPoolCreate(name=name, type=pool_type, base_job_template=template))


def template_of(metadata: Mapping[str, Any], pool_type: PoolType) -> dict[str, Any]:
    """Prefect's own template of this type, for Kubernetes with volumes. Raises `DeploymentError`."""
    for workers in metadata.values():
        if pool_type in workers:
            found: dict[str, Any] = copy.deepcopy(workers[pool_type]["default_base_job_configuration"])
            return with_volumes(found) if pool_type == "kubernetes" else found
    raise DeploymentError(
        f"the Prefect server knows no work pools of type {pool_type}; make the pool with `prefect work-pool "
        "create`"
    )


def with_volumes(template: dict[str, Any]) -> dict[str, Any]:
    """A template of Kubernetes in which volumes are variables."""
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["volumes"] = "{{ volumes }}"
    pod["containers"][0]["volumeMounts"] = "{{ volume_mounts }}"
    template["variables"]["properties"] |= copy.deepcopy(_VOLUMES)
    return template
