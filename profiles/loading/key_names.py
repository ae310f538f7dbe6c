"""The keys of a profile: any spelling of a known key becomes the one that the models know.

zot reads keys in any case, and Python's and TOML's users write snake_case: `pollInterval`, `PollInterval`
and `poll_interval` are one key.
"""

from __future__ import annotations

import difflib
import types
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from profiles.errors import Severity
from profiles.loading.zot_keys import FOREIGN, LOCAL_DRIVERS, ForeignKey
from profiles.model.fields import ProfileModel
from profiles.model.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from profiles.loading.document import Member, Node, Position

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A problem or a warning about a key, before it knows its file."""

    place: Position
    path: str
    found: str
    write: str
    severity: Severity = Severity.ADVICE


class NormalizedDocument:
    """Reads one document: `data` for the models, and where each value of it stands."""

    def __init__(self, root: Node) -> None:
        self.problems: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []
        self.misspelled: set[KeyPath] = set()  # what unknown keys were probably meant to be
        self.places: dict[KeyPath, Position] = {(): root.place}
        self._short: set[KeyPath] = set()  # keys that the file leaves out: their section is a list
        self._prefix = ""  # "extensions." when the file has sync there, as zot does
        self.data = self._value(root, Profile, ())

    def place(self, path: KeyPath) -> Position:
        """Where the value at `path` stands, or what it would stand in."""
        return next(self.places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.places)

    @property
    def is_zot(self) -> bool:
        """Whether the file has zot's form: `sync` is an extension there."""
        return bool(self._prefix)

    def format_path(self, path: KeyPath) -> str:
        """`sync.registries[0].urls`, as the file has it."""
        text = ""
        for at, part in enumerate(path, 1):
            if path[:at] in self._short:
                continue
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return self._prefix + text if path[:1] == ("sync",) else text

    def _value(self, node: Node, model: type[ProfileModel] | None, path: KeyPath) -> Any:
        self.places.setdefault(path, node.place)
        if node.members is not None:
            return self._model(node, model, path) if model else self._plain_mapping(node, path)
        if node.items is not None:
            if model is not None and model.list_for:  # where its items are for the models
                self._short.add((*path, model.list_for))
                places = {(*path, model.list_for, at): item.place for at, item in enumerate(node.items)}
                self.places.update(places)
            return [self._value(item, model, (*path, at)) for at, item in enumerate(node.items)]
        return node.value

    def _plain_mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        return {
            member.key: self._value(member.value, None, (*path, member.key)) for member in node.members or ()
        }

    def _model(self, node: Node, model: type[ProfileModel], path: KeyPath) -> dict[str, Any]:
        known = keys_of(model)
        taken: dict[str, Member] = {}
        data: dict[str, Any] = {}
        for member in self._members(node, model):
            key = fold_key(member.key)
            if key not in known:
                self._unknown(member, model, path)
            elif key in taken:
                self._duplicate(member, taken[key], path)
            else:
                taken[key] = member
                self._take(member, known[key], data, path)
        return data

    def _take(self, member: Member, key: Key, data: dict[str, Any], path: KeyPath) -> None:
        if member.value.members is None and member.value.items is None and member.value.value is None:
            return  # a key without a value says nothing, in YAML as for zot
        inner = (*path, key.name)
        self.places[inner] = member.value.place
        if key.map_of is not None and member.value.members is not None:
            data[key.name] = {
                entry.key: self._value(entry.value, key.map_of, (*inner, entry.key))
                for entry in member.value.members
            }
        else:
            data[key.name] = self._value(member.value, key.model, inner)

    def _members(self, node: Node, model: type[ProfileModel]) -> Iterator[Member]:
        for member in node.members or ():
            if model is Profile and fold_key(member.key) == "extensions":
                yield from self._extensions(member)
            else:
                yield member

    def _extensions(self, section: Member) -> Iterator[Member]:
        """`extensions.sync` is zot's place for `sync`; its other extensions are not ours."""
        if section.value.members is None and section.value.plain() is not None:
            found = "'extensions' is not a section with keys"
            self.problems.append(
                Diagnostic(section.value.place, section.key, found, "write sync: … below it")
            )
        for member in section.value.members or ():
            if fold_key(member.key) == "sync":
                self._prefix = "extensions."
                yield member
            else:
                self._foreign(member, "extensions", "extensions", ("sync",))

    def _unknown(self, member: Member, model: type[ProfileModel], path: KeyPath) -> None:
        section = ".".join(part for part in path[:2] if isinstance(part, str))
        known = tuple(key.name for key in keys_of(model).values())
        self.misspelled.update((*path, name) for name in _close_matches(member.key, known))
        self._foreign(member, section, self.format_path(path), known)

    def _foreign(self, member: Member, section: str, where: str, known: tuple[str, ...]) -> None:
        path = f"{where}.{member.key}" if where else member.key
        foreign = FOREIGN.get(section, {}).get(fold_key(member.key))
        if foreign is None:
            found = f"unknown key {member.key!r}"
            self.problems.append(Diagnostic(member.place, path, found, _suggestion(member.key, known)))
        elif foreign.refused and not _has_no_effect(member, foreign):
            self.problems.append(Diagnostic(member.place, path, foreign.found, foreign.write))
            if foreign.instead:  # that it is missing is said already
                self.misspelled.add((*section.split("."), foreign.instead))
        elif not foreign.refused:
            self.warnings.append(Diagnostic(member.place, path, foreign.found, foreign.write))

    def _duplicate(self, member: Member, first: Member, path: KeyPath) -> None:
        spelled = "" if member.key == first.key else f", spelled {first.key!r}"
        found = f"the key {member.key!r} stands already on line {first.place.line}{spelled}"
        self.problems.append(
            Diagnostic(member.place, self.format_path((*path, member.key)), found, "keep one of the two")
        )


@dataclass(frozen=True, slots=True)
class Key:
    """A key that a model knows: its spelling, and the model of what is in it (or in its list, or its map)."""

    name: str
    model: type[ProfileModel] | None
    map_of: type[ProfileModel] | None


def fold_key(key: str) -> str:
    """What all spellings of one key have in common."""
    return key.replace("_", "").replace("-", "").lower()


@cache
def keys_of(model: type[ProfileModel]) -> dict[str, Key]:
    """The keys of a model by their folded spelling."""
    keys = [_key(name, info) for name, info in model.model_fields.items()]
    return {fold_key(key.name): key for key in keys}


def model_in(annotation: Any) -> type[ProfileModel] | None:
    """The model that an annotation holds, directly, optionally, or as the items of a tuple or dict."""
    if isinstance(annotation, type) and issubclass(annotation, ProfileModel):
        return annotation
    if get_origin(annotation) in (tuple, dict, Union, types.UnionType):
        return next(filter(None, map(model_in, get_args(annotation))), None)
    return None


def _key(name: str, info: FieldInfo) -> Key:
    model = model_in(info.annotation)
    is_map = get_origin(info.annotation) is dict
    return Key(info.alias or name, None if is_map else model, model if is_map else None)


def _close_matches(key: str, known: tuple[str, ...], cutoff: float = 0.6) -> list[str]:
    by_fold = {fold_key(name): name for name in known}
    return [by_fold[near] for near in difflib.get_close_matches(fold_key(key), by_fold, 1, cutoff)]


def _suggestion(key: str, known: tuple[str, ...]) -> str:
    """What was probably meant; else where the key would be known; else what is known here."""
    elsewhere = _sections_by_key().get(fold_key(key))
    near = _close_matches(key, known, 0.85 if elsewhere else 0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if elsewhere:
        return f"it belongs into {elsewhere}"
    return f"known here: {', '.join(known)}"


@cache
def _sections_by_key() -> dict[str, str]:
    """In which section each key is known, for keys that stand in the wrong one."""
    homes: dict[str, str] = {}
    for section, model in sections():
        for key in keys_of(model):
            homes.setdefault(key, section or "the top of the profile")
    return homes


def sections(
    model: type[ProfileModel] = Profile, section: str = ""
) -> Iterator[tuple[str, type[ProfileModel]]]:
    """Every section of a profile with its model, outermost first: `sync.registries[].content[]`."""
    yield section, model
    for name, info in model.model_fields.items():
        inner = model_in(info.annotation)
        if inner is not None:
            origin = get_origin(info.annotation)
            mark = "[]" if origin is tuple else ".*" if origin is dict else ""
            yield from sections(inner, f"{section}.{info.alias or name}{mark}".lstrip("."))


def _has_no_effect(member: Member, _foreign: ForeignKey) -> bool:
    """`storageDriver: {name: local}` says what is the case anyway; an empty section says nothing."""
    value = member.value.plain()
    if fold_key(member.key) == "storagedriver" and isinstance(value, dict):
        return value.get("name", "") in LOCAL_DRIVERS
    return value in (None, {}, [])
