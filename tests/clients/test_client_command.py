"""`mirrorflow client` as a user types it, and what it warns of."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flows.client_config.generate import mirror_of, warnings
from profiles.loader import parse_profile

if TYPE_CHECKING:
    from pathlib import Path

HUB = {"urls": ["https://docker.io"], "onDemand": True}


def test_a_policy_that_clients_can_go_around_is_said(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "team.pub").write_bytes(key.public_bytes(encoding, form))
    signer = {"name": "team", "type": "key", "key": "team"}
    document = {
        "storage": {"rootDirectory": "store"},
        "http": {"address": "0.0.0.0"},  # noqa: S104 - nothing listens
        "sync": {"registries": [HUB]},
        "trust": {"keys": {"team": {"file": "team.pub"}}},
        "verify": {"rules": [{"match": ["**"], "signatures": {"from": [signer]}}]},
    }
    of = parse_profile(json.dumps(document), tmp_path / "profile.json").profile
    said = list(warnings(of, mirror_of(of)))
    assert any("--no-fallback" in each for each in said)
    assert any("is a guess" in each for each in said)


def test_the_command_prints_files_with_their_places_and_steps_apart(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(
        "storage: {rootDirectory: store}\n"
        "sync: {registries: [{urls: ['https://quay.io'], onDemand: true, content: [{prefix: 'a/**'}]}]}\n"
    )
    told = _mirrorflow("client", "k3s", str(path), "--write", str(tmp_path / "root"))
    assert told.stdout == ""
    assert "systemctl restart k3s" in told.stderr
    assert (tmp_path / "root/etc/rancher/k3s/registries.yaml").exists()
    shown = _mirrorflow("client", "podman", str(path)).stdout
    assert shown.startswith("# /etc/containers/registries.conf.d/50-mirrorflow.conf\n")
    [registry] = tomllib.loads(shown)["registry"]
    assert registry["mirror"] == [{"location": "127.0.0.1:8080/a", "insecure": True}]
    for_programs = json.loads(_mirrorflow("client", "podman", str(path), "--json").stdout)
    assert f"# {for_programs['files'][0]['path']}\n{for_programs['files'][0]['content']}" == shown


def _mirrorflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from flows.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
