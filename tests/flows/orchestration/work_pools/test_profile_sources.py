"""Where runs of workers find the profile: under a path, in a git checkout, in a block of the server."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from flows.lifecycle.profile_location import ProfileUnavailable, profile_file
from flows.orchestration.deployments import DeploymentError
from flows.orchestration.work_pools.deploy import DeployRequest, worker_definitions
from profiles.loader import load_profile
from registry_server.store.store import Store
from tests.flows.orchestration.work_pools.worker import Worker
from tests.support.command_line import mirrorflow
from tests.support_misbehaving import Misbehaving
from tests.tasks.runs import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        found.add_image("apps/web", "1")
        yield found


@pytest.fixture(scope="module")
def worker(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    from prefect.client.orchestration import get_client

    with (
        get_client(sync_client=True) as client,
        Worker(client, prefect_url, tmp_path_factory.mktemp("worker")) as worker,
    ):
        yield worker


def write(folder: Path, host: str, store: str, **sync: Any) -> tuple[Path, str]:
    """The profile, and the name of its entry."""
    name = f"up-{uuid4().hex[:6]}"
    entry = {"name": name, "urls": [f"http://{host}"], "content": [{"prefix": "**"}]}
    profile = folder / "mirror.json"
    document = {"storage": {"rootDirectory": store}, "sync": {"registries": [entry], **sync}}
    profile.write_text(json.dumps(document))
    return profile, name


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def deployed(worker: Worker, profile: Path, *options: str) -> None:
    done = mirrorflow("deploy", profile, "--work-pool", worker.pool, *options, **worker.environment)
    assert done.returncode == 0, done.stderr


def test_a_worker_takes_the_profile_from_a_block(
    worker: Worker, client: SyncPrefectClient, upstream: Misbehaving, tmp_path: Path
) -> None:
    profile, name = write(tmp_path, upstream.host, str(tmp_path / "store"))
    deployed(worker, profile, "--profile-block", name)
    profile.unlink()  # no host has it
    run = worker.start_run(f"mirror_registry/{name}")
    assert run.parameters["profile"] == f"block:{name}"
    ended = worker.await_state(run.id, "Completed", "Failed", "Crashed")
    assert ended.state_name == "Completed", ended.state
    assert set(visible(Store.open(tmp_path / "store"))) == {"apps/web:1"}


def test_a_worker_takes_the_profile_from_a_clone(
    worker: Worker, client: SyncPrefectClient, upstream: Misbehaving, tmp_path: Path
) -> None:
    """Also of a repository that has folders named as mirrorflow's packages."""
    repository = tmp_path / "repository"
    (repository / "mirrors").mkdir(parents=True)
    (repository / "flows").mkdir()
    (repository / "flows/__init__.py").write_text("raise RuntimeError('not the flows of mirrorflow')\n")
    profile, name = write(repository / "mirrors", upstream.host, str(tmp_path / "store"))
    git(repository, "init", "-q", "-b", "main")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Mirrors")
    deployed(worker, profile, "--git", repository.as_uri(), "--branch", "main")
    profile.unlink()
    run = worker.start_run(f"mirror_registry/{name}")
    assert run.parameters["profile"] == "mirror.json"
    ended = worker.await_state(run.id, "Completed", "Failed", "Crashed")
    assert ended.state_name == "Completed", f"{ended.state}\n{worker.log}"
    assert set(visible(Store.open(tmp_path / "store"))) == {"apps/web:1"}


def test_a_block_that_there_is_not_fails_the_run_and_says_what_makes_it(prefect_url: str) -> None:
    said = "`mirrorflow deploy --profile-block nowhere` makes it"
    with pytest.raises(ProfileUnavailable, match=said), profile_file("block:nowhere"):
        pass


def test_a_path_begins_at_the_folder_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with profile_file("mirrors/mirror.json") as path:
        assert path == tmp_path / "mirrors/mirror.json"


@pytest.mark.parametrize(
    ("store", "request_", "error"),
    [
        pytest.param(
            "store",
            DeployRequest("pool", profile_block="mirror"),
            "every path has to be absolute, because a run has no folder of the profile; relative are store, "
            "credentials.json",
            id="a relative store in a block",
        ),
        pytest.param(
            "/srv/store",
            DeployRequest("pool", profile_block="mirror"),
            "relative are credentials.json",
            id="a relative file in a block",
        ),
        pytest.param(
            "/srv/store",
            DeployRequest("pool", profile_block="My Mirror"),
            "'My Mirror' cannot name a block: write lower case letters, digits and single '-'",
            id="a name that Prefect does not take",
        ),
        pytest.param(
            "store",
            DeployRequest("pool", git="https://git.example/mirrors.git"),
            "the folders of the store have to be absolute, because each run has a checkout of its own",
            id="a relative store in a clone",
        ),
        pytest.param(
            "/srv/store",
            DeployRequest("pool", git="https://git.example/mirrors.git"),
            "is in no git checkout",
            id="not in a checkout",
        ),
        pytest.param(
            "/srv/store",
            DeployRequest("pool", git="https://me:secret@git.example/mirrors.git"),
            "the address has credentials",
            id="a password in the address",
        ),
        pytest.param(
            "/srv/store",
            DeployRequest("pool", profile_block="a", git="https://git.example/mirrors.git"),
            "give --profile-block or --git",
            id="both",
        ),
        pytest.param(
            "/srv/store",
            DeployRequest(profile_block="a"),
            "--profile-block is for workers: name their work pool with --work-pool POOL",
            id="no pool",
        ),
        pytest.param(
            "/srv/store",
            DeployRequest("pool", git_secret="token"),
            "--branch and --git-secret belong to --git URL",
            id="a secret for nothing",
        ),
    ],
)
def test_what_no_run_could_use_is_refused(
    tmp_path: Path, store: str, request_: DeployRequest, error: str
) -> None:
    (tmp_path / "credentials.json").write_text("{}")
    profile, _ = write(tmp_path, "registry1:5000", store, credentialsFile="credentials.json")
    with pytest.raises(DeploymentError) as refused:
        request_.source(load_profile(profile))
    assert error in str(refused.value)
    assert "secret@" not in str(refused.value)


def test_the_token_of_a_private_repository_stays_in_its_block(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    loaded = load_profile(write(tmp_path, "registry1:5000", "/srv/store")[0])
    request = DeployRequest("pool", git="https://git.example/m.git", git_secret="git-token")
    [definition] = worker_definitions(loaded, request.source(loaded), {})
    assert definition.pull_steps == (
        {
            "prefect.deployments.steps.git_clone": {
                "id": "clone",
                "repository": "https://git.example/m.git",
                "access_token": "{{ prefect.blocks.secret.git-token }}",
            }
        },
        {"prefect.deployments.steps.set_working_directory": {"directory": "{{ clone.directory }}"}},
    )


def test_a_profile_beside_a_folder_named_as_a_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "tasks").mkdir()
    loaded = load_profile(write(tmp_path, "registry1:5000", "/srv/store")[0])
    with pytest.raises(DeploymentError, match="is beside a folder 'tasks'"):
        DeployRequest("pool", git="https://git.example/m.git").source(loaded)
