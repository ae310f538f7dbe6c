"""Policies that change, through the commands: what is stored is judged again before it is served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console

import flows
from flows.orchestration.runner_events import DeploymentsApplied, ProfileChanged, ProfileRefused
from flows.supervisor.up import Supervisor
from registry_server.http.server_process import running_server
from registry_server.oci.media_types import OCI_CONFIG
from tests.support.waiting import wait_for
from tests.tasks.companies import APP
from tests.tasks.trust.attacker import (
    OURS,
    TAR,
    ZIPPED,
    attacked,
    config_of,
    manifest_of,
    pem_of,
    policy,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tasks.trust.attacker import Attack

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(flows.__file__).parents[1]
THEIRS = ec.generate_private_key(ec.SECP256R1())


class Secret:
    """A key in a folder, as Kubernetes mounts one: the file is a link through `..data`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        folder.mkdir()
        self.swap(pem_of(OURS))
        (folder / "team.pub").symlink_to("..data/team.pub")

    def swap(self, text: str) -> None:
        """All files at once, by the link alone."""
        self.number += 1
        made = self.folder / f"..{self.number}"
        made.mkdir()
        (made / "team.pub").write_text(text)
        draft = self.folder / "..data_tmp"
        draft.symlink_to(made.name)
        draft.rename(self.folder / "..data")


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    with attacked(tmp_path_factory.mktemp("upstream"), api=True) as found:
        yield found


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Secret:
    return Secret(tmp_path_factory.mktemp("secrets") / "trust")


@pytest.fixture(scope="module")
def profile(attack: Attack, secret: Secret, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("up") / "profile.yaml"
    path.write_text(
        f"""
storage: {{rootDirectory: store}}
http: {{port: 0}}
trust: {{keys: {{team: {{file: {secret.folder}/team.pub}}}}}}
verify:
  rules: [{{match: ["**"], signatures: {{from: [{{name: team, type: key, key: team}}]}}}}]
sync:
  registries:
    - name: up-{uuid4().hex[:6]}
      urls: ["{attack.upstream.url}"]
      pollInterval: 1h
      content: [{{prefix: "**"}}]
"""
    )
    return path


@pytest.fixture(scope="module")
def up(profile: Path, prefect_url: str) -> Iterator[Supervisor]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(profile.parent / "home")}
    environment |= {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with Supervisor(profile, environment=environment, grace=2, console=Console(quiet=True)) as up:
        assert isinstance(up.follow(until=DeploymentsApplied), DeploymentsApplied)
        wait_for(lambda: status(up) == 200)
        yield up


def status(up: Supervisor) -> int:
    return httpx.get(f"{up.registry_url}/v2/{APP}/manifests/v1").status_code


def test_a_key_that_is_replaced_takes_effect_and_a_broken_one_does_not(
    up: Supervisor, secret: Secret, attack: Attack
) -> None:
    secret.swap("half a file")
    refused = up.follow(until=ProfileRefused)
    assert isinstance(refused, ProfileRefused)
    assert "not a public key in PEM" in refused.message
    assert status(up) == 200, "the key that was taken over last is in force"

    secret.swap(pem_of(THEIRS))
    changed = up.follow(until=ProfileChanged)
    assert isinstance(changed, ProfileChanged)
    assert "1 hidden" in changed.note
    for reference in ("v1", attack.signed.digest, f"{attack.stem}.sig"):
        assert httpx.get(f"{up.registry_url}/v2/{APP}/manifests/{reference}").status_code == 404

    secret.swap(pem_of(THEIRS) + pem_of(OURS))
    assert isinstance(up.follow(until=ProfileChanged), ProfileChanged)


def test_a_key_may_come_later_than_the_profile_that_names_it(
    up: Supervisor, secret: Secret, profile: Path
) -> None:
    """A ConfigMap and a Secret of Kubernetes arrive one after the other."""
    later = profile.with_name("later.pub")
    profile.write_text(profile.read_text().replace(f"{secret.folder}/team.pub", str(later)))
    refused = up.follow(until=ProfileRefused)
    assert isinstance(refused, ProfileRefused)
    assert "later.pub cannot be read" in refused.message
    later.write_text(pem_of(OURS))
    assert isinstance(up.follow(until=ProfileChanged), ProfileChanged)


def test_a_store_that_was_filled_without_a_policy_serves_nothing_unjudged_under_one(
    attack: Attack, tmp_path: Path, prefect_url: str
) -> None:
    unsigned = attack.push(manifest_of(OCI_CONFIG, config_of(b"x"), (f"{TAR}+gzip", ZIPPED)), "v2")
    name = f"filled-{uuid4().hex[:6]}"
    entry = {"name": name, "urls": [attack.upstream.url], "content": [{"prefix": "**"}]}
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(document))
    assert command("sync", profile, prefect_url).returncode == 0

    profile.write_text(json.dumps(document | policy()))
    assert "images 2 not judged yet" in command("check", profile, prefect_url).stdout
    assert command("status", profile, prefect_url).returncode == 2
    done = command("sync", profile, prefect_url)
    assert done.returncode == 1, done.stdout
    with running_server(tmp_path / "store") as url:
        asked = ("v1", "v2", unsigned.digest)
        found = {each: httpx.get(f"{url}/v2/{APP}/manifests/{each}").status_code for each in asked}
        assert found == {"v1": 200, "v2": 404, unsigned.digest: 404}
        assert "v2" not in httpx.get(f"{url}/v2/{APP}/tags/list").json()["tags"]
    told = command("status", profile, prefect_url)
    assert told.returncode == 2
    assert "1 hidden" in told.stdout


def command(name: str, profile: Path, prefect_url: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment |= {"PREFECT_API_URL": prefect_url, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", name, str(profile)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
