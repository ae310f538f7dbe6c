"""The floors of the house: imports point down, and each floor knows only the libraries that it may."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ["registry_server", "profiles", "tasks", "flows"]  # each may import those before it
FORBIDDEN = {
    "registry_server": {"prefect", "httpx", "typer", "rich", "pydantic"},
    "profiles": {"prefect", "httpx", "starlette", "granian", "typer", "rich"},
    "tasks": {"starlette", "granian", "typer", "rich"},
    "flows": set[str](),
}
# Prefect may copy or load these by their path: whatever they define would exist twice.
FLOW_FILES = ["flows/mirror_registry.py", "flows/mirror_on_demand.py"]
LONGEST_FILE = 350
WIDEST_FOLDER = 20  # modules and folders


def _files() -> list[Path]:
    return [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def _folders() -> list[Path]:
    return sorted({path.parent for path in _files()})


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    """Modules of ours that it imports when it is imported itself."""
    found = set[str]()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found - {_module(path)}


def _imported(path: Path) -> set[str]:
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: Prefect loads files by path; import absolutely"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    assert not _imported(path) & (above | FORBIDDEN[floor])


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("folder", _folders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_is_seen_at_a_glance(folder: Path) -> None:
    entries = [each for each in folder.iterdir() if each.name not in {"__init__.py", "__pycache__"}]
    assert len(entries) <= WIDEST_FOLDER


MIRRORED = ["profiles", "registry_server"]
OF_THE_WHOLE = {"conformance"}  # folders of tests that are about no folder of the source


@pytest.mark.parametrize("floor", MIRRORED)
def test_the_folders_of_tests_are_those_of_the_source(floor: str) -> None:
    folders = {
        path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / floor).rglob("test_*.py")
    }
    assert not [each for each in folders if each.name not in OF_THE_WHOLE and not (ROOT / each).is_dir()]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports that are only for types, or in a function, do not count."""
    imports = {_module(path): _imports(path) for path in _files()}
    while leaves := [name for name, found in imports.items() if not found & imports.keys()]:
        for name in leaves:
            del imports[name]
    assert not imports, "these are in circles, or import one that is"


@pytest.mark.parametrize("name", FLOW_FILES)
def test_a_flow_file_defines_nothing_but_its_flow(name: str) -> None:
    body = ast.parse((ROOT / name).read_text()).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    assert len(functions) == 1
    assert not [node for node in body if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_has_the_name_of_a_standard_module(path: Path) -> None:
    """`flows/` can stand first on sys.path when Prefect loads a flow by its path."""
    assert path.stem not in sys.stdlib_module_names - {"__main__"} or path.parent.name not in FLOORS


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        pytest.param(
            "flows.cli.app", {"prefect", "httpx", "pydantic", "starlette"}, id="--help needs none of them"
        ),
        pytest.param("flows.cli.plan", {"prefect", "starlette"}, id="plan runs no flow"),
        pytest.param("flows.receiver.main", {"prefect"}, id="misses are served before Prefect is there"),
        pytest.param("registry_server.http.app", {"prefect", "httpx", "pydantic"}, id="the server is alone"),
    ],
)
def test_what_a_command_does_not_need_it_does_not_import(module: str, heavy: set[str]) -> None:
    code = f"import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not heavy & set(done.stdout.split())
