"""A key that is replaced on disk under a running `up`: what the old one signed is not served any longer."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console

from flows.runner_report import Applied, Changed, Refused
from flows.up import Up
from tests.tasks.companies import APP
from tests.tasks.trust.attacker import OURS, attacked, pem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.tasks.trust.attacker import Attack

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

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
def up(
    attack: Attack, secret: Secret, tmp_path_factory: pytest.TempPathFactory, prefect_url: str
) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    profile = folder / "profile.yaml"
    profile.write_text(
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
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(folder / "home")}
    environment |= {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with Up(profile, environment=environment, grace=2, console=Console(quiet=True)) as up:
        assert isinstance(up.follow(until=Applied), Applied)
        until(lambda: status(up) == 200)
        yield up


def status(up: Up) -> int:
    return httpx.get(f"{up.registry_url}/v2/{APP}/manifests/v1").status_code


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Waits; fails when it does not come true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it has not come true"
        time.sleep(0.2)


def test_a_key_that_is_replaced_takes_effect_and_a_broken_one_does_not(
    up: Up, secret: Secret, attack: Attack
) -> None:
    secret.swap("half a file")
    refused = up.follow(until=Refused)
    assert isinstance(refused, Refused)
    assert "not a public key in PEM" in refused.message
    assert status(up) == 200, "the key that was taken over last is in force"

    secret.swap(pem_of(THEIRS))
    changed = up.follow(until=Changed)
    assert isinstance(changed, Changed)
    assert "1 hidden" in changed.note
    for reference in ("v1", attack.signed.digest, f"{attack.stem}.sig"):
        assert httpx.get(f"{up.registry_url}/v2/{APP}/manifests/{reference}").status_code == 404

    secret.swap(pem_of(THEIRS) + pem_of(OURS))
    assert isinstance(up.follow(until=Changed), Changed)
