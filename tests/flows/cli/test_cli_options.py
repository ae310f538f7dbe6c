"""What all commands share: MIRRORFLOW_PROFILE, and JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import typer

from flows.cli.app import app
from flows.entries import open_store
from profiles.loader import load_profile
from tests.support.command_line import mirrorflow, write_profile
from tests.support_misbehaving import Misbehaving, answers, well_behaved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as upstream:
        upstream.add_image("app", "1", (b"layer",))
        yield upstream


@pytest.fixture(scope="module")
def profile(upstream: Misbehaving, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a mirror that holds app:1."""
    path = write_profile(tmp_path_factory.mktemp("options"), f"http://{upstream.host}", "{prefix: app}")
    assert mirrorflow("sync", path).returncode == 0
    return path


@pytest.mark.parametrize(
    ("words", "stdout"),
    [
        pytest.param(["status"], "everything that the profile wants is in place", id="the only argument"),
        pytest.param(["explain", "app:1"], "app:1 is stored as app:1", id="an argument follows"),
        pytest.param(["client", "podman"], "location", id="an argument comes before"),
        pytest.param(["store", "undelete"], "", id="optional arguments follow"),
        pytest.param(["store", "export", "app:1", "--to", "{folder}/out"], "", id="several follow"),
        pytest.param(["store", "import", "{folder}/layout"], "app:1", id="a path follows"),
        pytest.param(["rerun"], "nothing to run again", id="a run may follow"),
    ],
)
def test_the_environment_can_name_the_profile(
    profile: Path, tmp_path: Path, words: list[str], stdout: str
) -> None:
    assert mirrorflow("store", "export", profile, "app:1", "--to", tmp_path / "layout").returncode == 0
    words = [word.replace("{folder}", str(tmp_path)) for word in words]
    done = mirrorflow(*words, MIRRORFLOW_PROFILE=str(profile))
    assert done.returncode == 0, done.stderr
    assert stdout in done.stdout


@pytest.mark.parametrize(
    ("words", "stderr"),
    [
        pytest.param(["status", "typo.yaml"], "typo.yaml: there is no such file", id="a profile"),
        pytest.param(["explain", "typo.yaml", "app:1"], "typo.yaml: there is no such", id="and an image"),
        pytest.param(["store", "undelete", "app:7"], "app:7", id="an image that is not there"),
    ],
)
def test_what_is_written_wins_over_the_environment(profile: Path, words: list[str], stderr: str) -> None:
    done = mirrorflow(*words, MIRRORFLOW_PROFILE=str(profile))
    assert done.returncode == 1
    assert stderr in done.stderr


def test_without_any_profile_a_command_names_what_is_missing() -> None:
    done = mirrorflow("explain", "app:1", MIRRORFLOW_PROFILE="")
    assert done.returncode == 2
    assert "Missing argument 'REPO[:TAG]'" in done.stderr


def test_help_says_that_the_environment_can_name_the_profile() -> None:
    for command in ("status", "sync", "up", "explain"):
        assert "MIRRORFLOW_PROFILE" in mirrorflow(command, "--help").stdout


WITH_JSON = [
    ["status", "{profile}"],
    ["plan", "{profile}"],
    ["sync", "{profile}"],
    ["verify", "{profile}", "app:1"],
    ["audit", "{profile}"],
    ["client", "podman", "{profile}"],
    ["doctor", "{profile}"],
    ["store", "ls", "{profile}"],
    ["store", "stats", "{profile}"],
    ["store", "gc", "{profile}"],
    ["store", "scrub", "{profile}"],
    ["store", "snapshots", "{profile}"],
    ["promotions", "{profile}"],
    ["cover", "{profile}", "--images", "{profile}"],  # a file without a single image
    ["copy", "http://127.0.0.1:9/app:1", "http://127.0.0.1:9/x"],  # nothing listens there
]
# These need more than a mirrored store; test_promotions.py and test_air_gap.py look at what they print.
ELSEWHERE = {"promote", "rollback", "bundle apply"}


@pytest.mark.parametrize("words", WITH_JSON, ids=lambda words: words[0] if len(words) < 3 else words[1])
def test_json_has_a_version(profile: Path, words: list[str]) -> None:
    done = mirrorflow(*(word.replace("{profile}", str(profile)) for word in words), "--json")
    found: Any = json.loads(done.stdout)
    assert [each["version"] for each in (found if isinstance(found, list) else [found])] == [1]


def test_the_versions_of_all_commands_with_json_are_tested() -> None:
    tested = {" ".join(words[: 2 if words[0] == "store" else 1]) for words in WITH_JSON}
    assert tested | ELSEWHERE == {name for name, command in all_commands() if "--json" in command}


def all_commands() -> Iterator[tuple[str, set[str]]]:
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        for below, each in getattr(command, "commands", {"": command}).items():
            yield f"{name} {below}".strip(), {opt for parameter in each.params for opt in parameter.opts}


def test_sync_prints_its_reports_as_json_and_nothing_else_on_stdout(
    profile: Path, upstream: Misbehaving
) -> None:
    upstream.on("/v2/app/tags/list", answers(500), well_behaved)
    done = mirrorflow("sync", profile, "--json")
    assert done.returncode == 1
    (report,) = json.loads(done.stdout)
    assert (report["registry"], report["state"]) == ("up", "failed")
    assert report == open_store(load_profile(profile).profile).reports.load_all()[-1]


def test_sync_prints_the_report_of_each_entry(upstream: Misbehaving, tmp_path: Path) -> None:
    """Both end in the same second, with the same message."""
    entries = [
        {
            "name": name,
            "urls": [f"http://{upstream.host}"],
            "content": [{"prefix": "app", "destination": name}],
        }
        for name in ("first", "second")
    ]
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"storage": {"rootDirectory": "store"}, "sync": {"registries": entries}}))
    done = mirrorflow("sync", profile, "--json")
    assert [report["registry"] for report in json.loads(done.stdout)] == ["first", "second"]
    assert "second: 1 of 1 images" in mirrorflow("sync", profile).stdout


def test_a_sync_that_cannot_begin_prints_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    done = mirrorflow("sync", write_profile(tmp_path, "http://127.0.0.1:9", "{prefix: a}"), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == []
    assert "error: " in done.stderr
