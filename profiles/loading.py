"""From a file to a profile, or to everything that is wrong with it."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from profiles.advice import advise
from profiles.complaints import Complaint, complaints
from profiles.errors import Problem, ProfileInvalid, ProfileUnreadable, ProfileWarning
from profiles.json_source import read_json
from profiles.model import Profile
from profiles.toml_source import read_toml
from profiles.vocabulary import Remark, Vocabulary
from profiles.yaml_source import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from profiles import vocabulary
    from profiles.document import Document, Flaw, Place

_READERS = {".json": read_json, ".yaml": read_yaml, ".yml": read_yaml, ".toml": read_toml}
_ROUNDS = 10  # each round removes what was refused, to see what else is wrong; two do nearly always
_HARMLESS: dict[Any, Any] = {
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

    Relative paths in the profile begin at `folder`, by default the one that the file is in. Raises
    `ProfileUnreadable` when there is no text, and `ProfileInvalid` with all problems at once.
    """
    content = _read(path)
    loaded = parse_profile(_text(content, path), path, folder=folder)
    return replace(loaded, sha256=hashlib.sha256(content).hexdigest())


def read_text(path: Path) -> str:
    """Raises `ProfileUnreadable`."""
    return _text(_read(path), path)


def parse_profile(text: str, path: Path, *, folder: Path | None = None) -> LoadedProfile:
    """`load_profile` for a text at hand; `path` is what messages call it. Raises `ProfileInvalid`."""
    document = _reader(path, text)(text)
    if document.root is None or document.flaws:
        raise ProfileInvalid(_from_flaws(document, path))
    words = Vocabulary(document.root)
    home = (path.parent if folder is None else folder).absolute()
    profile, found = _validate(words.data, home)
    problems = [*words.problems, *_remarks(found, words)]
    if profile is None or problems:
        raise ProfileInvalid(tuple(Problem(path, *_fields(remark)) for remark in _in_order(problems)))
    remarks = _in_order([*words.warnings, *advise(profile, words)])
    return LoadedProfile(profile, path, tuple(ProfileWarning(path, *_fields(remark)) for remark in remarks))


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


def _reader(path: Path, text: str) -> Any:
    by_suffix = _READERS.get(path.suffix.lower())
    if by_suffix:
        return by_suffix
    # zot tries its formats in turn as well when the suffix says nothing.
    if text.lstrip().startswith("{"):
        return read_json
    return read_toml if not read_toml(text).flaws else read_yaml


def _from_flaws(document: Document, path: Path) -> tuple[Problem, ...]:
    """Syntax first; when the text could be read over the flaws, unknown keys and wrong values too."""
    remarks = [_flaw(flaw) for flaw in document.flaws]
    if document.root is not None:
        words = Vocabulary(document.root)
        _, found = _validate(words.data, path.parent)
        remarks += words.problems
        remarks += _remarks(found, words)
    return tuple(Problem(path, *_fields(remark)) for remark in _in_order(remarks))


def _validate(data: Any, folder: Path) -> tuple[Profile | None, list[Complaint]]:
    """Validate, take out what was refused, validate again: else one mistake would hide others.

    What a later round finds only because an earlier one took something out is no complaint.
    """
    found: list[Complaint] = []
    removed: set[vocabulary.Path] = set()
    for _ in range(_ROUNDS):
        try:
            profile = Profile.model_validate(data, context={"folder": folder})
        except ValidationError as error:
            new = [one for one in _causes(error) if not removed.intersection(one.consequence_of)]
            found += new
            gone = set().union(*(_take_out(data, path) for one in new for path in one.removed))
            removed |= gone
            if not gone:
                return None, found
        else:
            return (None if found else profile), found
    return None, found


def _causes(error: ValidationError) -> list[Complaint]:
    """Without "nothing is listed" about a list whose every item was refused."""
    every = list(complaints(error))
    inner = {one.path[:-1] for one in every}
    return [one for one in every if not (one.empty and one.path in inner)]


def _take_out(data: Any, path: vocabulary.Path) -> set[vocabulary.Path]:
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
        if path[last] in _HARMLESS:
            holder[path[last]] = copy.deepcopy(_HARMLESS[path[last]])
        if known or path[last] in _HARMLESS:
            return {path[: last + 1], path}
    return set()


def _remarks(found: Iterable[Complaint], words: Vocabulary) -> list[Remark]:
    """A key that is missing because it is misspelled was reported under its misspelling."""
    return [
        Remark(words.place(one.path), words.spell(one.path), one.found, one.write)
        for one in found
        if not words.misspelled.intersection(one.consequence_of)
    ]


def _flaw(flaw: Flaw) -> Remark:
    return Remark(flaw.place, "", flaw.found, flaw.write)


def _fields(remark: Remark) -> tuple[int, int, str, str, str]:
    return remark.place.line, remark.place.column, remark.path, remark.found, remark.write


def _in_order(remarks: Iterable[Remark]) -> list[Remark]:
    def order(remark: Remark) -> tuple[Place, str]:
        return remark.place, remark.path

    return sorted(dict.fromkeys(remarks), key=order)
