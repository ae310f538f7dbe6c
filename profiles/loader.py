"""From a file to a profile, or to everything that is wrong with it."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from profiles.environment import with_environment
from profiles.errors import Problem, ProfileInvalid, ProfileUnreadable, ProfileWarning
from profiles.lint.all_checks import check_all
from profiles.loading.key_names import Diagnostic, NormalizedDocument
from profiles.loading.validation_errors import FieldError, field_errors
from profiles.model.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from profiles.loading import key_names
    from profiles.loading.document import Document, Position, SyntaxProblem

_SUFFIXES = frozenset({".json", ".yaml", ".yml", ".toml"})
_ROUNDS = 10  # each round removes what was refused, to see what else is wrong; two do nearly always
_PLACEHOLDERS: dict[Any, Any] = {
    "storage": {"rootDirectory": "/"},
    "rootDirectory": "/",
    "urls": ["https://registry.invalid"],
    "prefix": "**",
}
_MAX_BYTES = 10 * 2**20


@dataclass(frozen=True, slots=True)
class LoadedProfile:
    """A profile, the file it came from, and what is allowed there but probably not meant.

    `sha256` is that of the file's content, in hex; "" where there was none.
    """

    profile: Profile
    path: Path
    warnings: tuple[ProfileWarning, ...] = ()
    sha256: str = ""


def load_profile(path: Path, *, folder: Path | None = None) -> LoadedProfile:
    """Read YAML, JSON or TOML (by the suffix, else by the look of the text).

    Relative paths in the profile begin at `folder`, by default the one that the file is in. Variables of the
    environment win over the file (profiles/environment.py). Raises `ProfileUnreadable` when there is no text,
    `ProfileInvalid` with all problems at once, and `EnvironmentInvalid`.
    """
    content = _read(path)
    loaded = parse_profile(_text(content, path), path, folder=folder)
    profile = with_environment(loaded.profile)
    return replace(loaded, profile=profile, sha256=hashlib.sha256(content).hexdigest())


def read_text(path: Path) -> str:
    """Raises `ProfileUnreadable`."""
    return _text(_read(path), path)


def parse_profile(text: str, path: Path, *, folder: Path | None = None) -> LoadedProfile:
    """`load_profile` for a text at hand; `path` is what messages call it. Raises `ProfileInvalid`."""
    document = _document(path, text)
    if document.root is None or document.problems:
        raise ProfileInvalid(_syntax_problems(document, path))
    normalized = NormalizedDocument(document.root)
    home = (path.parent if folder is None else folder).absolute()
    profile, found = _validate(normalized.data, home)
    problems = [*normalized.problems, *_diagnostics(found, normalized)]
    if profile is None or problems:
        raise ProfileInvalid(
            tuple(Problem(path, *_fields(diagnostic)) for diagnostic in _by_position(problems))
        )
    diagnostics = _by_position([*normalized.warnings, *check_all(profile, normalized)])
    return LoadedProfile(
        profile,
        path,
        tuple(ProfileWarning(path, *_fields(diagnostic), diagnostic.severity) for diagnostic in diagnostics),
    )


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ProfileUnreadable(
                f"{path}: is a folder; name a profile in it, e.g. {path / 'profile.yaml'}"
            )
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ProfileUnreadable(f"{path}: there is no such file; write the path of a profile") from None
    except OSError as error:
        raise ProfileUnreadable(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise ProfileUnreadable(f"{path}: larger than {_MAX_BYTES >> 20} MiB, which no profile is")
    return content


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProfileUnreadable(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error


def _document(path: Path, text: str) -> Document:
    """zot tries its formats in turn as well when the suffix says nothing. Only what reads it is imported."""
    suffix = path.suffix.lower()
    if suffix == ".json" or (suffix not in _SUFFIXES and text.lstrip().startswith("{")):
        from profiles.loading.json_reader import read_json

        return read_json(text)
    if suffix not in {".yaml", ".yml"}:
        from profiles.loading.toml_reader import read_toml

        document = read_toml(text)
        if suffix == ".toml" or not document.problems:
            return document
    from profiles.loading.yaml_reader import read_yaml

    return read_yaml(text)


def _syntax_problems(document: Document, path: Path) -> tuple[Problem, ...]:
    """Syntax first; when the text could be read over the problems, unknown keys and wrong values too."""
    diagnostics = [_syntax_diagnostic(problem) for problem in document.problems]
    if document.root is not None:
        normalized = NormalizedDocument(document.root)
        _, found = _validate(normalized.data, path.parent)
        diagnostics += normalized.problems
        diagnostics += _diagnostics(found, normalized)
    return tuple(Problem(path, *_fields(diagnostic)) for diagnostic in _by_position(diagnostics))


def _validate(data: Any, folder: Path) -> tuple[Profile | None, list[FieldError]]:
    """Validate, take out what was refused, validate again: else one mistake would hide others.

    What a later round finds only because an earlier one took something out is not reported.
    """
    found: list[FieldError] = []
    removed: set[key_names.KeyPath] = set()
    for _ in range(_ROUNDS):
        try:
            profile = Profile.model_validate(data, context={"folder": folder})
        except ValidationError as error:
            every = _causes(error)
            found += [one for one in every if not removed.intersection(one.consequence_of)]
            gone = set().union(*(_remove_value(data, path) for one in every for path in one.removed))
            removed |= gone
            if not gone:
                return None, found
        else:
            return (None if found else profile), found
    return None, found


def _causes(error: ValidationError) -> list[FieldError]:
    """Without "nothing is listed" about a list whose every item was refused."""
    every = list(field_errors(error))
    inner = {one.path[:-1] for one in every}
    return [one for one in every if not (one.empty and one.path in inner)]


def _remove_value(data: Any, path: key_names.KeyPath) -> set[key_names.KeyPath]:
    """Take the value at `path` out, or what holds it where that is a list, whose indexes must not shift.

    A key that must be there gets a harmless value instead. The result is what was taken out or put in.
    """
    keys = [at for at, part in enumerate(path) if isinstance(part, str)]
    for last in reversed(keys):
        holder = data
        try:
            for part in path[:last]:
                holder = holder[part]
            known = holder.pop(path[last], None) is not None
        except (KeyError, IndexError, TypeError, AttributeError):
            continue
        if path[last] in _PLACEHOLDERS:
            holder[path[last]] = copy.deepcopy(_PLACEHOLDERS[path[last]])
        if known or path[last] in _PLACEHOLDERS:
            return {path[: last + 1], path}
    return set()


def _diagnostics(found: Iterable[FieldError], normalized: NormalizedDocument) -> list[Diagnostic]:
    """A key that is missing because it is misspelled was reported under its misspelling."""
    return [
        Diagnostic(normalized.place(one.path), normalized.format_path(one.path), one.found, one.write)
        for one in found
        if not normalized.misspelled.intersection(one.consequence_of)
    ]


def _syntax_diagnostic(problem: SyntaxProblem) -> Diagnostic:
    return Diagnostic(problem.place, "", problem.found, problem.write)


def _fields(diagnostic: Diagnostic) -> tuple[int, int, str, str, str]:
    return diagnostic.place.line, diagnostic.place.column, diagnostic.path, diagnostic.found, diagnostic.write


def _by_position(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    def order(diagnostic: Diagnostic) -> tuple[Position, str]:
        return diagnostic.place, diagnostic.path

    return sorted(dict.fromkeys(diagnostics), key=order)
