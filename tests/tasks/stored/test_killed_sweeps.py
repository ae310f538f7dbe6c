"""A sweep that is killed before any of its steps loses nothing, and the next one goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from registry_server.oci.media_types import OCI_CONFIG
from tests.tasks.runs import mirror, opened
from tests.tasks.trust.attacker import TAR, ZIPPED, attacked, config_of, manifest_of, policy

ROOT = Path(__file__).resolve().parents[3]


def test_whenever_a_sweep_is_killed_every_image_is_whole_and_the_next_sweep_hides_it(tmp_path: Path) -> None:
    with attacked(tmp_path, api=True) as attack:
        for tag in ("v2", "v3"):
            attack.push(manifest_of(OCI_CONFIG, config_of(tag.encode()), (f"{TAR}+gzip", ZIPPED)), tag)
        with opened(tmp_path, attack.upstream.url) as run:
            assert mirror(run).complete
        entry = {"name": "registry1", "urls": [attack.upstream.url], "content": [{"prefix": "**"}]}
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}, **policy()}
    (tmp_path / "profile.json").write_text(json.dumps(document))
    command = [sys.executable, "-m", "tests.tasks.stored.killed_sweeps", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50, "steps that one sweep has: the kills met the real ones"
