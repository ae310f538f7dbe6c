"""The notebooks run from the first cell to the last, on a mirror whose runs did not all succeed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

from flows.notebook_support.failed_runs import connected
from flows.notebook_support.sync_report import (
    DEMO,
    failure_reasons,
    find_profile,
    run_bytes,
    run_outcomes,
    saved_share,
)
from flows.orchestration.deployment_runs import RunRefused
from flows.orchestration.runner_events import RunEnded
from flows.supervisor.up import Supervisor
from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flows.documents.conftest import Mirror

# Prefect leaves sockets of its clients unclosed; its own suite ignores the same two. What jupyter's
# client says of deprecated parts of its own libraries is not ours either.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
_format: Any = nbformat  # it has no types
_NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    notebook = _format.read(path, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_the_report_draws_its_plots(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _execute("sync_report", mirror, monkeypatch)
    pictures = [output for output in _outputs(done) if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    text = _text(done)
    assert "The mirror is complete: " in text
    assert "  sample: 38 of 38 images" in text


@pytest.mark.parametrize("name", ["sync_report", "rerun_failed"])
def test_without_a_mirror_a_notebook_says_a_sentence(
    name: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "demo.yaml"
    profile.write_text(mirror.profile.read_text())
    done = _execute(name, mirror, monkeypatch, MIRRORFLOW_PROFILE=str(profile))
    assert "there is no store" in _text(done)
    assert len(_text(done).splitlines()) == 1


def test_without_a_running_up_the_rerun_says_what_to_start(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _execute("rerun_failed", mirror, monkeypatch, PREFECT_API_URL="")
    assert (
        _text(done)
        == f"no mirrorflow is running on {mirror.store.root}: start `mirrorflow up {mirror.profile}` first\n"
    )
    done = _execute("rerun_failed", mirror, monkeypatch, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert "the Prefect server at http://127.0.0.1:9/api does not answer" in _text(done)


def test_failed_runs_are_found_explained_and_run_again(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Supervisor(mirror.profile, environment=mirror.environment, console=Console(quiet=True)) as up:
        first = up.follow(until=RunEnded)
        assert isinstance(first, RunEnded)
        assert first.state == "Failed"
        with mirror.upstream_running():
            done = _execute("rerun_failed", mirror, monkeypatch)
    text = _text(done)
    assert "[0] mirror sample: Failed, " in text
    assert "(all of it)" in text
    assert text.endswith("  Completed\nmirror sample: Completed, 38 of 38 images, nothing new\n")


def test_without_a_mirror_that_runs_nothing_is_asked_to_run(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(RunRefused, match="start `mirrorflow up"), connected(mirror.profile):
        pass


def test_the_profile_is_the_named_one_or_the_demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIRRORFLOW_PROFILE", raising=False)
    assert find_profile(tmp_path) == tmp_path / DEMO
    (tmp_path / DEMO).parent.mkdir()
    (tmp_path / DEMO).touch()
    (tmp_path / "notebooks").mkdir()
    assert find_profile(tmp_path / "notebooks") == tmp_path / DEMO
    monkeypatch.setenv("MIRRORFLOW_PROFILE", str(tmp_path / "mine.yaml"))
    assert find_profile() == tmp_path / "mine.yaml"


def test_the_rows_of_the_plots_are_what_the_reports_say(mirror: Mirror) -> None:
    reports = mirror.store.reports.load_all()[:4]  # other tests add some
    outcomes = [(row.state, row.copied, row.unchanged, row.failed) for row in run_outcomes(reports)]
    assert outcomes == [
        ("complete", 8, 0, 0),
        ("failed", 0, 0, 1),  # a tag list that could not be read
        ("failed", 27, 8, 3),  # three tags name the image that has lost a blob
        ("complete", 3, 35, 0),
    ]
    rows = run_bytes(reports)
    assert all(row.moved > 0 for row in rows if row.ended != rows[1].ended)
    assert 0.3 < saved_share(rows) < 0.9
    assert saved_share([]) == 0.0
    (reason, count), *rest = failure_reasons(reports)
    assert "BLOB_UNKNOWN" in reason
    assert count == 3
    assert len(rest) == 1
    assert failure_reasons(reports, most=1) == [(reason, 3), ("others", 1)]


def _execute(name: str, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Any:
    notebook = _format.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
    for variable in set(os.environ) - set(mirror.environment):
        monkeypatch.delenv(variable)
    for variable, value in {**mirror.environment, "PYTHONPATH": str(ROOT), **environment}.items():
        monkeypatch.setenv(variable, value)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(mirror.folder)}})
    return client.execute()


def _outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def _text(notebook: Any) -> str:
    return "".join(output.get("text", "") for output in _outputs(notebook))
