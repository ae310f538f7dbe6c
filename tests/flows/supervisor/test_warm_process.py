"""Runs that are forked from a process which has imported all they need."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.orchestration.warm_process import WarmProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = "tests.flows.supervisor.warm_run"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmProcess]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "executable", sys.executable)  # put back afterwards
    made = WarmProcess(tmp_path, MODULE, again_after=0.0)
    made.start()
    yield made
    made.stop()


def ready(warm: WarmProcess) -> None:
    wait_for((warm.folder / "warm/socket").exists)


def start(what: str, *arguments: str, folder: Path, **more: str) -> subprocess.Popen[str]:
    """As Prefect's Runner does."""
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, *arguments],
        env={**os.environ, "WHAT": what, **more},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )


def started(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A run that sleeps: its launcher, and its process id."""
    launcher = start("sleeps", folder=folder)
    assert launcher.stdout is not None
    with launcher.stdout as said:
        return launcher, int(said.readline().split()[0])


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_has_the_environment_folder_and_arguments_of_its_launcher_and_its_exit_code(
    warm: WarmProcess, tmp_path: Path, code: int
) -> None:
    ready(warm)
    launcher = start("speaks", "one", folder=tmp_path, CODE=str(code))
    said, _ = launcher.communicate(timeout=30)
    pid, *rest = said.split()
    assert rest == ["speaks", str(tmp_path), "one"]
    assert int(pid) != launcher.pid, "it is a fork"
    assert launcher.returncode == code


def test_without_the_process_python_is_started_as_it_was(warm: WarmProcess, tmp_path: Path) -> None:
    """It has not imported all yet, or it was killed."""
    warm.stop()
    launcher = start("speaks", folder=tmp_path, CODE="4")
    said, _ = launcher.communicate(timeout=30)
    assert int(said.split()[0]) == launcher.pid
    assert launcher.returncode == 4


def test_a_process_that_was_killed_is_started_again(warm: WarmProcess, tmp_path: Path) -> None:
    ready(warm)
    warm.stop()
    (warm.folder / "warm/socket").unlink()
    warm.ensure()
    ready(warm)
    launcher = start("speaks", folder=tmp_path)
    said, _ = launcher.communicate(timeout=30)
    assert int(said.split()[0]) != launcher.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_launcher_ends_the_run(
    warm: WarmProcess, tmp_path: Path, number: signal.Signals
) -> None:
    ready(warm)
    launcher, run = started(tmp_path)
    assert run != launcher.pid
    launcher.send_signal(number)
    assert launcher.wait(30) == -number
    wait_for(lambda: not is_running(run))


def test_runs_go_on_when_the_process_is_asked_to_end(warm: WarmProcess, tmp_path: Path) -> None:
    """A stop of `up` gives them their grace."""
    ready(warm)
    launcher, run = started(tmp_path)
    warm.ask_to_end()
    time.sleep(0.5)
    assert is_running(run)
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(30)


def test_only_the_owner_may_ask_for_a_run(warm: WarmProcess) -> None:
    """A run is a process with our rights."""
    ready(warm)
    assert (warm.folder / "warm").stat().st_mode & 0o077 == 0


def test_a_run_ends_as_a_program_does(warm: WarmProcess, tmp_path: Path) -> None:
    """It waits for its threads: Prefect sends the last logs and events of a run from some."""
    ready(warm)
    launcher = start("ends late", folder=tmp_path, CODE="3")
    said, _ = launcher.communicate(timeout=30)
    assert said.splitlines()[1:] == ["from a thread", "at exit"]
    assert launcher.returncode == 3


def test_a_run_makes_files_with_the_rights_that_ours_have(warm: WarmProcess, tmp_path: Path) -> None:
    """Another user may read the store."""
    ready(warm)
    launcher = start("makes a folder", folder=tmp_path)
    launcher.communicate(timeout=30)
    assert launcher.returncode == 0
    (tmp_path / "ours").mkdir()
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "ours").stat().st_mode


RUNNER = """
import subprocess, sys, time
from pathlib import Path
from flows.orchestration.warm_process import WarmProcess
folder, module = sys.argv[1:3]
WarmProcess(Path(folder), module).start()
while not Path(folder, "warm/socket").exists():
    time.sleep(0.05)
subprocess.Popen([sys.executable, "-m", module])
time.sleep(60)
"""


def test_runs_end_when_the_runner_is_killed(tmp_path: Path) -> None:
    """The next runner starts them again: two runs of an entry at once would do everything twice."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WHAT": "sleeps"}
    command = [sys.executable, "-c", RUNNER, str(tmp_path), MODULE]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        run = int(runner.stdout.readline().split()[0])
        runner.kill()
        wait_for(lambda: not is_running(run), 10)


def ask(warm: WarmProcess, folder: Path, what: str) -> tuple[socket.socket, int]:
    """As the launcher does; the process id of the run."""
    link = connected(warm)
    asked = {
        "environment": {**os.environ, "WHAT": what},
        "folder": str(folder),
        "arguments": ["-m", MODULE],
    }
    with Path(os.devnull).open("r+b") as nothing:
        socket.send_fds(link, [json.dumps(asked).encode()], [nothing.fileno()] * 3)
    return link, int(json.loads(link.recv(4096))["pid"])


def connected(warm: WarmProcess) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(20)
    link.connect(str(warm.folder / "warm/socket"))
    return link


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_right_after_the_fork_is_not_lost(
    warm: WarmProcess, tmp_path: Path, number: signal.Signals
) -> None:
    ready(warm)
    for _ in range(30):
        link, run = ask(warm, tmp_path, "sleeps")
        os.kill(run, number)
        with link:
            assert json.loads(link.recv(4096))["code"] != 0


def test_a_launcher_that_says_nothing_holds_up_no_other_one(warm: WarmProcess, tmp_path: Path) -> None:
    """It was stopped before it could."""
    ready(warm)
    with connected(warm):
        launcher = start("speaks", folder=tmp_path)
        said, _ = launcher.communicate(timeout=30)
    assert int(said.split()[0]) != launcher.pid, "it is a fork all the same"


def test_descriptors_of_a_message_that_cannot_be_read_are_closed(warm: WarmProcess, tmp_path: Path) -> None:
    ready(warm)
    assert warm._server is not None
    descriptors = Path(f"/proc/{warm._server.pid}/fd")
    start("speaks", folder=tmp_path).communicate(timeout=30)
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        with connected(warm) as link:
            socket.send_fds(link, [b"no JSON"], [0, 1, 2])
            assert link.recv(4096) == b""
    assert len(list(descriptors.iterdir())) == before


def test_a_launcher_of_a_process_that_ends_becomes_python_at_once(warm: WarmProcess, tmp_path: Path) -> None:
    ready(warm)
    first, _ = started(tmp_path)
    warm.ask_to_end()
    time.sleep(0.5)
    launcher = start("speaks", folder=tmp_path)
    said, _ = launcher.communicate(timeout=30)
    assert int(said.split()[0]) == launcher.pid
    first.send_signal(signal.SIGTERM)
    first.wait(30)


def test_a_folder_with_a_long_path_has_no_warm_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """unix(7): the address of a socket has 108 bytes."""
    python = sys.executable
    monkeypatch.setattr(sys, "executable", python)
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    made = WarmProcess(folder, MODULE)
    made.start()
    made.ensure()
    assert sys.executable == python


def test_a_process_that_ends_again_and_again_is_not_started_each_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", sys.executable)
    made = WarmProcess(tmp_path, MODULE)
    made.start()
    made.stop()
    made.ensure()
    made.stop()
    assert not (tmp_path / "warm/socket").exists(), "nothing was started that could make it"
