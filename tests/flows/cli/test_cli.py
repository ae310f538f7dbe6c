"""The commands as a user types them: what they print, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.support.command_line import COMMAND, mirrorflow, write_profile
from tests.support_misbehaving import Misbehaving, answers, hangs, well_behaved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry

COMMANDS = [
    *("check", "schema", "starter", "plan", "explain", "sync"),
    *("serve", "up", "status", "audit", "rerun", "demo", "deploy", "verify", "client", "doctor", "cover"),
]


@pytest.fixture
def sample_profile(sample_upstream: Registry, tmp_path: Path) -> Path:
    rule = "{prefix: 'library/nginx', tags: {semverRange: '>=1.24 <2'}, destination: /mirror}"
    return write_profile(tmp_path, sample_upstream.url, rule)


@pytest.fixture
def sick() -> Iterator[Misbehaving]:
    with Misbehaving() as upstream:
        yield upstream


def test_help_names_every_command() -> None:
    shown = mirrorflow("--help").stdout
    for command in COMMANDS:
        assert f" {command} " in shown


def test_the_starter_profile_checks() -> None:
    starter = mirrorflow("starter")
    assert starter.returncode == 0
    assert "registries:" in starter.stdout


def test_the_schema_is_json() -> None:
    assert "properties" in json.loads(mirrorflow("schema").stdout)


def test_check_says_what_it_understood(sample_profile: Path) -> None:
    checked = mirrorflow("check", sample_profile)
    assert checked.returncode == 0
    assert "up: mirrored only by `mirrorflow sync`" in checked.stdout
    assert "library/nginx: tags versions >=1.24 <2, into /mirror" in checked.stdout


def test_check_says_that_only_signed_verifies_nothing(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, "https://registry1:5000", "{prefix: '**'}", "onlySigned: true,")
    checked = mirrorflow("check", profile)
    assert checked.returncode == 0
    assert "onlySigned checks that a signature exists, and verifies none" in checked.stdout


def test_check_refuses_a_key_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "team.pub").write_text("no key")
    profile = write_profile(tmp_path, "https://registry1:5000", "{prefix: '**'}")
    profile.write_text(profile.read_text() + "trust: {keys: {team: {file: team.pub}}}\n")
    checked = mirrorflow("check", profile)
    assert checked.returncode == 1
    assert "trust.keys.team" in checked.stderr


@pytest.mark.parametrize("command", ["check", "sync", "plan"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "there is no file", id="missing"),
        pytest.param("s3cret", "is not JSON", id="not JSON"),
        pytest.param('{"auths": {"r": {"auth": "s3cret"}}}', "is not base64 of user:password", id="no login"),
        pytest.param('{"auths": ["s3cret"]}', "`auths` is not an object", id="another form"),
    ],
)
def test_a_credentials_file_that_cannot_be_used_is_an_error_before_any_request(
    sick: Misbehaving, tmp_path: Path, command: str, content: str | None, said: str
) -> None:
    profile = write_profile(tmp_path, f"http://{sick.host}", "{prefix: a/b}")
    profile.write_text(profile.read_text().replace("sync: {", "sync: {credentialsFile: c.json, "))
    if content is not None:
        (tmp_path / "c.json").write_text(content)
    done = mirrorflow(command, profile)
    assert done.returncode == 1
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "sync.credentialsFile" in error
    assert said in error
    assert "s3cret" not in done.stdout + done.stderr
    assert sick.requests() == []


def test_strict_makes_an_error_of_what_mirrors_nothing(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, "https://r", "{prefix: 'A/B'}", "onlySigned: true,")
    loose, strict = mirrorflow("check", profile), mirrorflow("check", "--strict", profile)
    assert (loose.returncode, strict.returncode) == (0, 1)
    assert "warning: " in loose.stderr
    assert "can match no repository" in loose.stderr
    [error] = [line for line in strict.stderr.splitlines() if line.startswith("error: ")]
    assert "can match no repository" in error
    assert "warning: " in strict.stderr, "onlySigned mirrors, and is no error"


def test_an_entry_without_an_interval_is_for_cron_and_draws_no_warning(sample_profile: Path) -> None:
    assert "warning" not in mirrorflow("check", "--strict", sample_profile).stderr


def test_every_mistake_of_a_profile_is_one_line_with_its_place(tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "sync:\n  registries:\n    - urlz: [x]\n      content:\n        - {prefix: a, tags: {regex: '['}}\n"
    )
    checked = mirrorflow("check", profile)
    assert checked.returncode == 1
    lines = checked.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert any("profile.yaml:3:" in line and "urls" in line for line in lines)
    assert any("profile.yaml:5:" in line and "regex" in line for line in lines)
    assert "Traceback" not in checked.stderr


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path) -> None:
    assert "Traceback" in mirrorflow("check", tmp_path / "none.yaml", "--debug").stderr


@pytest.mark.parametrize(
    ("image", "code", "words"),
    [
        pytest.param(
            "library/nginx:1.25.4", 0, "is stored as mirror/library/nginx:1.25.4", id="by its upstream name"
        ),
        pytest.param(
            "mirror/library/nginx:1.25.4", 0, "library/nginx:1.25.4 is stored as", id="by its name here"
        ),
        pytest.param("library/nginx:1.9.0", 2, "drops", id="a tag outside of the range"),
        pytest.param("library/alpine:3", 2, "does not match library/alpine", id="another repository"),
    ],
)
def test_explain_says_which_rule_takes_or_drops(
    sample_profile: Path, image: str, code: int, words: str
) -> None:
    explained = mirrorflow("explain", sample_profile, image)
    assert explained.returncode == code
    assert words in explained.stdout


def test_plan_exits_2_for_changes_and_writes_nothing(sample_profile: Path) -> None:
    planned = mirrorflow("plan", sample_profile)
    assert planned.returncode == 2
    assert "up: add " in planned.stdout
    assert "mirror/library/nginx:1.25.4" in planned.stdout
    assert not (sample_profile.parent / "store").exists()


def test_plan_exits_1_when_the_upstream_cannot_be_reached(tmp_path: Path) -> None:
    planned = mirrorflow("plan", write_profile(tmp_path, "http://127.0.0.1:9", "{prefix: a/b}"))
    assert planned.returncode == 1
    assert "127.0.0.1:9" in planned.stdout + planned.stderr
    assert "Traceback" not in planned.stderr


def test_sync_plan_and_status_agree(sample_profile: Path, prefect_url: str) -> None:
    planned = json.loads(mirrorflow("plan", sample_profile, "--json").stdout)[0]
    synced = mirrorflow("sync", sample_profile, PREFECT_API_URL=prefect_url)
    assert synced.returncode == 0, synced.stderr
    assert f"up: {len(planned['add'])} of {len(planned['add'])} images" in synced.stdout
    again = mirrorflow("plan", sample_profile)
    assert again.returncode == 0, again.stdout
    status = mirrorflow("status", sample_profile, "--json")
    assert status.returncode == 0
    tags = json.loads(status.stdout)["tags"]
    assert {f"{tag['repository']}:{tag['reference']}" for tag in tags} == {
        image["image"] for image in planned["add"]
    }
    assert all(tag["upstream_digest"] == tag["stored_digest"] for tag in tags)


def test_an_image_that_was_asked_for_and_that_no_rule_takes_is_an_error(
    sample_profile: Path, prefect_url: str
) -> None:
    synced = mirrorflow("sync", sample_profile, "--image", "library/redis:7", PREFECT_API_URL=prefect_url)
    assert synced.returncode == 1
    assert "library/redis:7: no content rule takes it" in synced.stdout


def test_rerun_asks_for_exactly_what_failed(sick: Misbehaving, tmp_path: Path, prefect_url: str) -> None:
    sick.add_image("app", "good", (b"good layer",))
    bad = sick.add_image("app", "bad", (b"bad layer",))
    path = f"/v2/app/blobs/{bad.layers[0].digest}"
    sick.on(path, answers(500))
    profile = write_profile(tmp_path, f"http://{sick.host}", "{prefix: app}")
    first = mirrorflow("sync", profile, PREFECT_API_URL=prefect_url)
    assert first.returncode == 1
    assert "up: 1 of 2 images, 1 failed" in first.stdout
    assert "app:bad" in first.stdout
    assert "500" in first.stdout
    assert mirrorflow("status", profile).returncode == 2

    sick.on(path, well_behaved)
    sick.seen.clear()
    again = mirrorflow("rerun", "--profile", profile, PREFECT_API_URL=prefect_url)

    assert again.returncode == 0, again.stdout + again.stderr
    assert "up: app:bad" in again.stderr
    assert "up: 1 of 1 images" in again.stdout
    assert not [seen for seen in sick.requests() if "good" in str(seen)]
    assert mirrorflow("status", profile).returncode == 0
    nothing = mirrorflow("rerun", profile, PREFECT_API_URL=prefect_url)
    assert "nothing to run again" in nothing.stdout


def test_ctrl_c_ends_a_sync_that_waits_for_a_hung_upstream(
    sick: Misbehaving, tmp_path: Path, prefect_url: str
) -> None:
    image = sick.add_image("app", "1", (b"layer",))
    path = f"/v2/app/blobs/{image.layers[0].digest}"
    sick.on(path, hangs)
    profile = write_profile(tmp_path, f"http://{sick.host}", "{prefix: app}")
    child = subprocess.Popen(
        [*COMMAND, "sync", str(profile)],
        env={**os.environ, "PREFECT_API_URL": prefect_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    try:
        while not sick.requests("GET", path):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "stopped: 0 of 1 images" in stdout + stderr
    assert "Traceback" not in stderr
    store = Store.open(tmp_path / "store", create=False)
    assert store.repository(RepositoryName("app")).tag_records() == {}
    sick.on(path, well_behaved)
    assert mirrorflow("sync", profile, PREFECT_API_URL=prefect_url).returncode == 0
