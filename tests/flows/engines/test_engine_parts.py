"""What the engine decides and watches, without a Prefect server."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from rich.console import Console

from flows.lifecycle.accepted_profile import StorageChanged, accept, load_accepted
from flows.lifecycle.parent_death import ends_with_parent
from flows.orchestration import runner_events
from flows.orchestration.deployment_definitions import definitions
from flows.orchestration.deployments import Definition
from flows.orchestration.prefect_server import (
    PrefectServer,
    PrefectServerBusy,
    PrefectServerError,
    last_log_error,
    prefect_api,
)
from flows.orchestration.runner import RunnerOptions
from flows.orchestration.runner_events import (
    DeploymentsApplied,
    EntrySchedule,
    LeftoversCleared,
    ProfileChanged,
    ProfileRefused,
    RunEnded,
    RunnerFailed,
    read_event,
)
from flows.orchestration.server_record import (
    ServerRecord,
    claim_database,
    others_use_server,
    running_server,
    using_server,
    write_record,
)
from flows.settings import client_environment, own_server_wanted, server_environment
from flows.supervisor.view import SupervisorView
from profiles.errors import ProfileInvalid
from profiles.loader import load_profile
from profiles.values.poll_timing import PollInterval
from registry_server.store.filesystem.process_identity import ProcessIdentity

if TYPE_CHECKING:
    from flows.orchestration.runner_events import RunnerEvent

HERE = ProcessIdentity.current()
PROFILE = """\
storage: {rootDirectory: store}
sync:
  registries:
    - urls: [https://registry1:5000, https://registry2]
      pollInterval: 90m
      onDemand: true
      content:
        - {prefix: "library/*", stripPrefix: true, destination: /mirror,
           tags: {regex: "4.*", excludeRegex: ".*-rc", semverRange: ">=4.1", newest: 3}}
        - {prefix: "**", select: "contains(platforms, 'linux/arm64')", platforms: [linux/amd64]}
    - {name: asked, urls: [ghcr.io], pollInterval: 1h, onDemand: true}
    - name: listed
      urls: [quay.io]
      content: [{images: ["a/b:1", "a/b:2"]}, {prefix: c, tags: {semver: true}}]
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    return path


# settings


def test_a_server_of_the_user_is_theirs_alone() -> None:
    theirs = {
        "PREFECT_API_URL": "https://prefect.example/api",
        "PREFECT_API_KEY": "k",
        "PREFECT_PROFILE": "p",
    }
    assert not own_server_wanted(theirs)
    environment = client_environment(theirs, api_url=theirs["PREFECT_API_URL"], home=Path("/s/prefect"))
    assert theirs.items() <= environment.items()
    assert "PREFECT_HOME" not in environment, "their credentials are in their home"


@pytest.mark.parametrize(
    "name", ["PREFECT_SERVER_LOGGING_LEVEL", "PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_HOME"]
)
def test_what_a_user_has_set_wins(name: str) -> None:
    assert server_environment({name: "theirs"}, Path("/s/prefect"))[name] == "theirs"


def test_our_server_keeps_everything_in_the_store_and_calls_nobody() -> None:
    environment = server_environment({"PATH": "/bin", "PREFECT_PROFILE": "work"}, Path("/s/prefect"))
    assert environment["PATH"] == "/bin"
    assert environment["PREFECT_HOME"] == "/s/prefect"
    assert environment["PREFECT_SERVER_UI_STATIC_DIRECTORY"] == "/s/prefect/ui"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "PREFECT_PROFILE" not in environment, "our home has no profiles, and Prefect refuses a missing one"


def test_every_setting_is_one_that_prefect_knows() -> None:
    """A misspelt variable is ignored without a word."""
    from prefect.settings import Settings

    def names(model: type, found: set[str]) -> set[str]:
        for name, field in model.model_fields.items():  # type: ignore[attr-defined] # pydantic's
            if hasattr(field.annotation, "model_fields"):
                names(field.annotation, found)
            prefix = model.model_config["env_prefix"]  # type: ignore[attr-defined] # as above
            found.add(f"{prefix}{name}".upper())
            if field.validation_alias is not None:
                found |= {str(alias).upper() for alias in getattr(field.validation_alias, "choices", [])}
        return found

    known = names(Settings, set())
    handler = "PREFECT_LOGGING_HANDLERS_"  # paths into logging.yml, not settings
    given = {
        **server_environment({}, Path("/s/prefect")),
        **client_environment({}, api_url="u", home=Path("/s/prefect"), silent=True),
    }
    ours = {name for name in given if name.startswith("PREFECT_") and not name.startswith(handler)}
    assert ours <= known


# definitions


def test_a_deployment_says_what_it_does_in_words(profile: Path) -> None:
    first, asked, listed = definitions(load_profile(profile).profile, profile)
    assert first.description == (
        "Mirrors `https://registry1:5000`, or when that fails `https://registry2`, every 1h30m, "
        "and on demand.\n\n"
        "- `library/*`: tags like `4.*`, not like `.*-rc`, versions `>=4.1`, the newest 3, "
        "into `/mirror` without its prefix\n"
        "- `**`: all tags, where `contains(platforms, 'linux/arm64')`, for `linux/amd64`"
    )
    assert (first.name, first.timing) == ("registry1-5000", PollInterval(5400))
    assert first.parameters == {"profile": str(profile), "registry": "registry1-5000"}
    assert asked.timing is None, "zot: without content nothing is polled"
    assert "No content rule" in asked.description
    assert "- exactly `a/b:1`, `a/b:2`\n- `c`: tags versions only" in listed.description


def test_a_disabled_sync_has_no_deployments(profile: Path) -> None:
    profile.write_text(PROFILE.replace("sync:\n", "sync:\n  enable: false\n"))
    assert definitions(load_profile(profile).profile, profile) == ()


# the accepted profile


def test_runs_go_on_with_the_profile_that_was_accepted(profile: Path, tmp_path: Path) -> None:
    good, variable = accept(profile, tmp_path)
    profile.write_text("sync: [")
    with pytest.raises(ProfileInvalid):
        accept(profile, tmp_path, storage=good.profile.storage)
    assert load_accepted(profile, variable).profile == good.profile
    with pytest.raises(ProfileInvalid):
        load_accepted(profile, {})


def test_a_profile_that_names_another_store_is_not_accepted(profile: Path, tmp_path: Path) -> None:
    good, variable = accept(profile, tmp_path)
    profile.write_text(PROFILE.replace("store}", "elsewhere}"))
    with pytest.raises(StorageChanged, match="restart `mirrorflow up`"):
        accept(profile, tmp_path, storage=good.profile.storage)
    assert load_accepted(profile, variable).profile == good.profile


# logs


def test_of_a_log_the_last_exception_is_shown_and_not_a_page_of_it(tmp_path: Path) -> None:
    """shutil.copytree names every file that it could not copy, in one line."""
    log = tmp_path / "server.log"
    names = ", ".join(f"('file{number}', 'No space left on device')" for number in range(2000))
    log.write_text(f"Traceback\nshutil.Error: [{names}]\nServer stopped!\n")
    said = last_log_error(log)
    assert said.startswith("shutil.Error: [('file0', 'No space left on device')")
    assert len(said) < 400


# reports


REPORTS: list[RunnerEvent] = [
    DeploymentsApplied(
        (
            EntrySchedule("a", "every 1m", 1.5, started=False),
            EntrySchedule("b", "", None, started=False, paused=True),
        )
    ),
    LeftoversCleared(1, 2),
    ProfileChanged(("a",), (), ("c",), (EntrySchedule("a", "every 1m", 1.5, started=True),), note="restart"),
    ProfileRefused("profile.yaml:1: [bad]"),
    RunEnded("a", "Failed", "1 of 2 images, 1 failed", ("app:1: copy_blob: 403 Forbidden",)),
    RunnerFailed("no"),
]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.kind)
def test_a_report_arrives_as_it_was_sent_and_can_be_shown(report: RunnerEvent) -> None:
    reading, writing = os.pipe()
    runner_events.EventWriter(writing)(report)
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert read_event(lines.readline()) == report
    SupervisorView(Console(file=io.StringIO())).report(report)


def test_nobody_reading_is_no_reason_to_stop() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    runner_events.EventWriter(writing)(LeftoversCleared(1, 2))
    os.close(writing)


def test_brackets_in_a_message_are_not_markup() -> None:
    screen = io.StringIO()
    SupervisorView(Console(file=screen)).report(ProfileRefused("sync.registries[0].content[1]"))
    assert "sync.registries[0].content[1]" in screen.getvalue()


def test_a_comparison_names_what_a_profile_adds_changes_and_removes() -> None:
    before = [Definition("same", ""), Definition("other", "", PollInterval(60.0)), Definition("gone", "")]
    after = [Definition("same", ""), Definition("other", "", PollInterval(90.0)), Definition("new", "")]
    found = runner_events.compare(before, after, DeploymentsApplied(()))
    assert (found.added, found.changed, found.removed) == (("new",), ("other",), ("gone",))


def test_the_runner_is_told_everything_in_its_arguments() -> None:
    options = RunnerOptions("/p.yaml", "/s/prefect", "uuid", 5)
    assert RunnerOptions(**json.loads(options.arguments()[-1])) == options


# the server, as far as it need not start


def test_a_given_port_that_is_taken_is_said(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = PrefectServer(tmp_path / "prefect", port=port)
        with pytest.raises(PrefectServerError, match=f"port {port} on 127.0.0.1 is taken.* choose another"):
            server.start()
    assert claim_database(tmp_path / "prefect") is not None, "the failed start keeps nothing"


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_SERVER_DATABASE_CONNECTION_URL": "nonsense://"}
    with pytest.raises(PrefectServerError, match=r"ended with status 1: .*nonsense.*server\.log"):
        PrefectServer(tmp_path / "prefect", port=0, environment=environment).start()


def test_one_server_per_database(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    claim = claim_database(tmp_path / "prefect")
    assert claim is not None
    with pytest.raises(PrefectServerBusy, match=rf"pid {os.getpid()}"):
        PrefectServer(tmp_path / "prefect").start()
    os.close(claim)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(None, id="no record"),
        pytest.param(ServerRecord("http://127.0.0.1:1/api", HERE, 0.0), id="no server answers"),
        pytest.param(
            ServerRecord("http://127.0.0.1:1/api", replace(HERE, pid=2**22), 0.0), id="no such process"
        ),
    ],
)
def test_a_record_without_a_server_is_no_running_server(tmp_path: Path, record: ServerRecord | None) -> None:
    if record is not None:
        (tmp_path / "prefect").mkdir()
        write_record(tmp_path / "prefect", record)
    assert running_server(tmp_path / "prefect") is None


def test_a_command_works_with_the_server_that_the_user_names(tmp_path: Path, prefect_url: str) -> None:
    with prefect_api(tmp_path / "prefect", environment={"PREFECT_API_URL": prefect_url}) as url:
        assert url == prefect_url
    assert not (tmp_path / "prefect").exists()


def test_a_command_knows_whether_others_use_its_server(tmp_path: Path) -> None:
    with using_server(tmp_path) as mine:
        with using_server(tmp_path):
            assert others_use_server(mine)
        assert not others_use_server(mine)


def test_a_tied_child_dies_with_a_parent_that_is_killed() -> None:
    script = (
        "import subprocess, sys, time\nfrom flows.lifecycle.parent_death import ends_with_parent\n"
        "child = subprocess.Popen(ends_with_parent([sys.executable, '-c', 'import time; time.sleep(60)']))\n"
        "time.sleep(0.3); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_a_tied_command_is_run_with_its_arguments() -> None:
    echo = ends_with_parent([sys.executable, "-c", "import sys; print(sys.argv[1:])", "--a", "b c"])
    assert subprocess.run(echo, capture_output=True, text=True, check=True).stdout == "['--a', 'b c']\n"


def test_the_ui_asks_the_api_at_the_port_of_its_own_server(prefect_url: str) -> None:
    """Which is not 4200 where that port is taken."""
    settings = httpx.get(prefect_url.removesuffix("/api") + "/ui-settings").json()
    assert settings["api_url"] == prefect_url
