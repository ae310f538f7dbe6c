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
# The parts of tasks/ (its folders, and the files beside them), from the lowest layer to the highest: each
# imports only parts of lower layers.
LAYERS: list[set[str]] = [
    {"upstream"},
    {"run", "trust"},
    {"destinations"},
    {"context", "list_catalog", "manifests", "results"},
    {"companions", "copy_blob"},
    {"convert_manifest", "filter_tags", "publish_image", "stored", "verify_signature"},
    {"pipeline", "planning"},
    {"engines", "on_demand"},
]
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


def _is_only_cache(path: Path) -> bool:
    """What Python wrote: of the folder as well that was moved away, and that git leaves behind with it."""
    return path.is_dir() and all("__pycache__" in each.parts for each in path.rglob("*") if each.is_file())


@pytest.mark.parametrize("folder", _folders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_is_seen_at_a_glance(folder: Path) -> None:
    entries = [each for each in folder.iterdir() if each.name != "__init__.py" and not _is_only_cache(each)]
    assert len(entries) <= WIDEST_FOLDER


MIRRORED = ["profiles", "registry_server", "tasks"]
OF_THE_WHOLE = {"conformance"}  # folders of tests that are about no folder of the source


@pytest.mark.parametrize("floor", MIRRORED)
def test_the_folders_of_tests_are_those_of_the_source(floor: str) -> None:
    folders = {
        path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / floor).rglob("test_*.py")
    }
    assert not [each for each in folders if each.name not in OF_THE_WHOLE and not _is_in_source(each)]


def _is_in_source(path: Path) -> bool:
    """A folder, or a module whose tests fill a folder."""
    return (ROOT / path).is_dir() or (ROOT / path).with_suffix(".py").is_file()


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports that are only for types, or in a function, do not count."""
    imports = {_module(path): _imports(path) for path in _files()}
    while leaves := [name for name, found in imports.items() if not found & imports.keys()]:
        for name in leaves:
            del imports[name]
    assert not imports, "these are in circles, or import one that is"


def _parts_of_tasks() -> dict[str, list[Path]]:
    """The files of every part."""
    entries = [path for path in sorted((ROOT / "tasks").iterdir()) if path.is_dir() or path.suffix == ".py"]
    found = {path.stem: sorted(path.rglob("*.py")) if path.is_dir() else [path] for path in entries}
    return {name: paths for name, paths in found.items() if paths and name != "__init__"}


def _parts_imported(code: str, *, for_types: bool) -> set[str]:
    """The parts of tasks/ that a module imports: for types only, or else for use, in its functions too."""
    tree = ast.parse(code)
    blocks = [
        each for each in tree.body if isinstance(each, ast.If) and "TYPE_CHECKING" in ast.unparse(each.test)
    ]
    typed = {node for block in blocks for node in ast.walk(block)}
    names = set[str]()
    for node in ast.walk(tree):
        if (node in typed) is not for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("tasks.")}


def _wrong_imports(part: str, code: str) -> set[str]:
    """The parts that a module of `part` may not import.

    Types may come from its own layer: a function of `manifests` says that it takes a run of `context`.
    """
    layer = next(number for number, names in enumerate(LAYERS) if part in names)
    below, level = set[str]().union(*LAYERS[:layer]), LAYERS[layer]
    used, typed = (_parts_imported(code, for_types=each) for each in (False, True))
    return (used - below - {part}) | (typed - below - level)


def _layers() -> str:
    return "\n".join(f"layer {number}: {', '.join(sorted(names))}" for number, names in enumerate(LAYERS, 1))


def test_every_part_of_tasks_has_a_layer() -> None:
    assert sorted(part for names in LAYERS for part in names) == sorted(_parts_of_tasks()), _layers()


def test_parts_of_tasks_import_only_lower_layers() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {', '.join(sorted(found))}"
        for part in sorted(set[str]().union(*LAYERS))
        for path in _parts_of_tasks().get(part, [])
        if (found := _wrong_imports(part, path.read_text()))
    ]
    assert not wrong, "\n".join([*wrong, "a part imports only parts of lower layers:", _layers()])


@pytest.mark.parametrize(
    ("part", "code", "wrong"),
    [
        pytest.param("filter_tags", "from tasks.run.values import Image", set(), id="a lower layer"),
        pytest.param("filter_tags", "from tasks.filter_tags import wanted", set(), id="the part itself"),
        pytest.param("run", "from tasks.context import mirror_run", {"context"}, id="a higher layer"),
        pytest.param("copy_blob", "from tasks import companions", {"companions"}, id="its own layer"),
        pytest.param("run", "import tasks.pipeline", {"pipeline"}, id="with its package"),
        pytest.param("run", "def f():\n    import tasks.pipeline", {"pipeline"}, id="in a function"),
        pytest.param(
            "manifests",
            "if TYPE_CHECKING:\n    from tasks.context import x",
            set(),
            id="types of its own layer",
        ),
        pytest.param(
            "run",
            "if TYPE_CHECKING:\n    from tasks.context import x",
            {"context"},
            id="types of a higher layer",
        ),
    ],
)
def test_what_a_part_of_tasks_may_not_import(part: str, code: str, wrong: set[str]) -> None:
    assert _wrong_imports(part, code) == wrong


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


@pytest.mark.parametrize("floor", FLOORS)
def test_no_two_public_classes_of_a_floor_have_one_name(floor: str) -> None:
    found: dict[str, list[Path]] = {}
    for path in (ROOT / floor).rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path.relative_to(ROOT))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}
