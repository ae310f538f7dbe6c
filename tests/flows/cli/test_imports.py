"""What commands import: nothing heavy that they do not use. Importing is most of their start."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from benchmarks.harness.profile import write_profile

if TYPE_CHECKING:
    from pathlib import Path

# In a process of its own, after the command: the names of the packages and modules that it has imported.
_PROGRAM: Final = """
import atexit, gc, json, sys
def told():  # the last of all, because it is the first that is registered
    names = [name for name, module in sys.modules.items() if module is not None]
    print(json.dumps({"modules": names, "frozen": gc.get_freeze_count()}), file=sys.stderr)
atexit.register(told)
from flows.cli import main
main()
"""
_ALWAYS_HEAVY: Final = {
    "prefect", "sqlalchemy", "fastapi", "uvicorn", "granian", "starlette", "sigstore", "obstore",
    "jinja2", "docker", "kubernetes", "distributed", "rich.markdown", "rich.progress", "rich.traceback",
    "markdown_it", "pygments", "click", "httpx._main", "asyncinotify",
}  # fmt: skip
_OF_THE_NETWORK: Final = {
    "httpx",
    "httpcore",
    "h11",
    "h2",
    "anyio",
    "asyncio",
    "multiprocessing",
    "cryptography",
}


def _at_the_end(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return found


def _imported(*arguments: str) -> set[str]:
    return set(_at_the_end(*arguments)["modules"])


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Of an upstream that refuses connections; that is enough for a command to import what it needs."""
    return write_profile(tmp_path, "http://127.0.0.1:1", tmp_path / "store", maxRetries=0)


@pytest.mark.parametrize(
    ("command", "more"),
    [
        pytest.param("--help", {"pydantic"}, id="--help"),
        pytest.param("check --help", set[str](), id="of a command: typer checks arguments by pydantic"),
        pytest.param("--version", set[str](), id="--version"),
    ],
)
def test_help_imports_neither_models_nor_what_draws(command: str, more: set[str]) -> None:
    without = {"rich", "yaml", "jmespath", "semver", "tasks", "profiles.model"} | more
    assert _imported(*command.split()) & (_ALWAYS_HEAVY | _OF_THE_NETWORK | without) == set()


def test_check_imports_no_client_of_registries(profile: Path) -> None:
    assert not _imported("check", str(profile)) & (
        _ALWAYS_HEAVY | _OF_THE_NETWORK | {"tasks", "flows.orchestration"}
    )


@pytest.mark.parametrize("command", ["plan", "sync"])
def test_a_run_imports_what_it_needs_alone(command: str, profile: Path) -> None:
    found = _imported(command, str(profile))
    assert "httpx" in found, "it has asked upstream"
    rest = {"cryptography", "asyncio", "multiprocessing", "tarfile", "tomllib", "yaml"}
    assert found & (_ALWAYS_HEAVY | rest) == set(), "its profile is JSON, its upstream a registry"
    assert not {name for name in found if name.startswith(("tasks.upstream.helm", "tasks.upstream.push"))}


def test_a_command_ends_without_a_look_for_cycles_in_what_it_imported() -> None:
    assert _at_the_end("--version")["frozen"] > 0
