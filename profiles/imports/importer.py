"""From another program's configuration to the text of a profile that does the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.errors import Problem, ProfileInvalid
from profiles.imports import harbor, regsync, skopeo
from profiles.imports.draft import render
from profiles.imports.program import Program
from profiles.imports.section import Section
from profiles.loading.document import EMPTY
from profiles.loading.json_reader import read_json
from profiles.loading.yaml_reader import read_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.imports.draft import Draft
    from profiles.loading.document import Node, SyntaxProblem


def profile_text(text: str, path: Path, program: Program | None = None) -> str:
    """A profile in YAML. `program`: by the look of the file, if None. Raises `ProfileInvalid`."""
    document = (read_json if text.lstrip().startswith(("{", "[")) else read_yaml)(text)
    if document.root is None or document.problems:
        raise ProfileInvalid(tuple(_unreadable(path, problem) for problem in document.problems))
    program = program or _program(document.root)
    if program is None:
        found = "a configuration of neither regsync, nor skopeo sync, nor Harbor's replication"
        raise ProfileInvalid((Problem(path, 1, 1, "", found, "say what it is with --from"),))
    return render(_draft(program, document.root, path))


def _unreadable(path: Path, problem: SyntaxProblem) -> Problem:
    """Without what the reader found: it quotes the line, which may hold a password."""
    found, write = problem.found, problem.write
    if found != EMPTY:
        found = "not valid YAML or JSON, or a key stands twice (not quoted here: it may hold a password)"
        write = "correct the line here or the one before"
    return Problem(path, problem.place.line, problem.place.column, "", found, write)


def _draft(program: Program, root: Node, path: Path) -> Draft:
    if program is Program.HARBOR:
        nodes = root.items if root.items is not None else (root,)
        return harbor.convert(
            Section(node, f"[{at}]" if root.items is not None else "", path) for at, node in enumerate(nodes)
        )
    convert = regsync.convert if program is Program.REGSYNC else skopeo.convert
    return convert(Section(root, "", path))


def _program(root: Node) -> Program | None:
    if root.items is not None:
        return Program.HARBOR
    keys = {member.key for member in root.members or ()}
    if keys & {"src_registry", "dest_registry", "dest_namespace"}:
        return Program.HARBOR
    if "sync" in keys and keys <= {"version", "creds", "defaults", "sync"} | {
        k for k in keys if k[:2] == "x-"
    }:
        return Program.REGSYNC
    inner = {member.key for host in root.members or () for member in host.value.members or ()}
    return Program.SKOPEO if inner & {"images", "images-by-tag-regex", "images-by-semver"} else None
