"""Adding content rules and registry entries to the text of a profile, whose comments and layout stay.

The text is composed to nodes with their places, and what is added is inserted between two of them. Then the
result is loaded: it must mean the old profile and the additions, and nothing else.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from profiles.errors import ProfileError
from profiles.loader import parse_profile, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from profiles.model.profile import Profile

_TOML: Final = ".toml"
_INDENT: Final = 2


class ProfileNotEditable(ProfileError):
    """The text is written in a way that nothing can be inserted into; what to add has to be added by hand."""


@dataclass(frozen=True, slots=True)
class Addition:
    """Content rules for one registry entry.

    `keys` are those of an entry that is not there yet, with its name; empty for one that is. `comment` stands
    above what is added.
    """

    entry: str
    rules: Sequence[Mapping[str, Any]]
    keys: Mapping[str, Any] = field(default_factory=dict)
    comment: str = ""


def add_rules(text: str, path: Path, additions: Sequence[Addition]) -> str:
    """The text with them. Raises `ProfileInvalid` for a text that is no profile, and `ProfileNotEditable`."""
    if path.suffix.lower() == _TOML:
        raise ProfileNotEditable(f"{path}: TOML cannot be added to without losing its comments")
    before = parse_profile(text, path).profile
    edited = text
    for addition in additions:
        edited = _Text(edited, path).with_addition(addition, before.entry_names())
    _check(before, edited, path, additions)
    return edited


def write_rules(path: Path, additions: Sequence[Addition]) -> None:
    """Add them to the file; it is replaced as a whole, and keeps its mode. A link stays one.

    Raises what `add_rules` raises, `ProfileUnreadable`; `ProfileNotEditable` for what cannot be written.
    """
    edited = add_rules(read_text(path), path, additions)
    target = path.resolve()
    try:
        mode = target.stat().st_mode
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        staged = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(edited)
                file.flush()
                os.fsync(file.fileno())
            staged.chmod(mode)
            staged.replace(target)
        finally:
            staged.unlink(missing_ok=True)
    except OSError as error:
        raise ProfileNotEditable(
            f"{path}: cannot be written: {error.strerror}; add the rules by hand"
        ) from error


def rendered(addition: Addition) -> str:
    """What is added, as YAML for a person to paste."""
    if addition.keys:
        return "".join(_block_item({**addition.keys, "content": list(addition.rules)}, 0, addition.comment))
    return "".join(line for rule in addition.rules for line in _block_item(rule, 0, addition.comment))


def _check(before: Profile, text: str, path: Path, additions: Sequence[Addition]) -> None:
    """The new profile is the old one with the new rules at the end of their entries."""
    try:
        after = parse_profile(text, path).profile
    except ProfileError as error:
        raise ProfileNotEditable(f"{path}: with the additions it would not load: {error}") from error
    added = {each.entry: len(each.rules) for each in additions}
    old = {entry.name: entry for entry in before.sync.registries}
    same = [
        entry.model_copy(update={"content": entry.content[: len(entry.content) - added.get(entry.name, 0)]})
        == old[entry.name]
        for entry in after.sync.registries
        if entry.name in old
    ]
    expected = {*old, *added}
    if not all(same) or len(same) != len(old) or set(after.entry_names()) != expected:
        raise ProfileNotEditable(f"{path}: the additions would change what is there; add them by hand")


class _Text:
    """A text and its nodes."""

    def __init__(self, text: str, path: Path) -> None:
        self._text, self._path = text, path
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise self._refusal("is not a mapping")
        self._root = root
        self._shared = _shared(root)

    def with_addition(self, addition: Addition, names: Sequence[str]) -> str:
        registries = self._registries()
        if addition.keys and addition.entry not in names:
            item = {**addition.keys, "content": list(addition.rules)}
            return self._with_entry(registries, item, addition.comment)
        items = registries.value if isinstance(registries, yaml.SequenceNode) else []
        entry = items[names.index(addition.entry)]
        if not isinstance(entry, yaml.MappingNode):
            raise self._refusal("has a registry entry that is no mapping")
        content = _value(entry, "content")
        if content is None:
            return self._with_key(entry, "content", list(addition.rules), addition.comment)
        if not isinstance(content, yaml.SequenceNode):
            raise self._refusal("has a `content` that is no list")
        self._require_own(content)
        return self._with_items(content, addition.rules, addition.comment)

    def _registries(self) -> yaml.Node | None:
        sync = self._sync()
        return _value(sync, "registries") if sync else None

    def _sync(self) -> yaml.MappingNode | None:
        """Also where zot has it: `extensions.sync`."""
        for holder in (self._root, _value(self._root, "extensions")):
            found = _value(holder, "sync") if isinstance(holder, yaml.MappingNode) else None
            if isinstance(found, yaml.MappingNode):
                return found
        return None

    def _with_entry(self, registries: yaml.Node | None, item: Mapping[str, Any], comment: str) -> str:
        if isinstance(registries, yaml.SequenceNode):
            self._require_own(registries)
            return self._with_items(registries, [item], comment)
        sync = self._sync()
        if registries is not None or (sync is None and _value(self._root, "sync") is not None):
            raise self._refusal("has a `sync` or `registries` without a value")
        if sync is not None:
            return self._with_key(sync, "registries", [item], comment)
        return self._with_key(self._root, "sync", {"registries": [item]}, comment)

    def _with_items(
        self, sequence: yaml.SequenceNode, items: Iterable[Mapping[str, Any]], comment: str
    ) -> str:
        if sequence.flow_style:
            return self._into_flow(sequence, [json.dumps(item, ensure_ascii=False) for item in items])
        column = sequence.start_mark.column
        lines = [line for item in items for line in _block_item(item, column, comment)]
        return self._after(sequence, "".join(lines))

    def _with_key(self, mapping: yaml.MappingNode, key: str, value: Any, comment: str) -> str:
        if mapping.flow_style:
            said = f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
            return self._into_flow(mapping, [said])
        self._require_own(mapping)
        column = mapping.start_mark.column
        lines = [*_comment(comment, column), *_indented(_dump({key: value}), column)]
        return self._after(mapping, "".join(lines))

    def _into_flow(self, node: yaml.CollectionNode, items: Sequence[str]) -> str:
        """Before the closing bracket, in JSON, which is YAML too."""
        self._require_own(node)
        if not node.value:
            at, said = node.end_mark.index - 1, ", ".join(items)
        else:
            last = node.value[-1]
            at = (last[1] if isinstance(last, tuple) else last).end_mark.index
            said = "".join(f", {item}" for item in items)
        return self._text[:at] + said + self._text[at:]

    def _after(self, node: yaml.Node, lines: str) -> str:
        """After the line in which the node's own text ends: what a comment says of it stays with it."""
        end = self._text.find("\n", self._end(node))
        if end < 0:
            return f"{self._text}\n{lines}"
        return self._text[: end + 1] + lines + self._text[end + 1 :]

    def _end(self, node: yaml.Node) -> int:
        """Of a block, PyYAML's mark is where the next token begins, after comments and empty lines."""
        if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            return self._end(last[1] if isinstance(last, tuple) else last)
        end = int(node.end_mark.index)
        if isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}:
            return max(len(self._text[:end].rstrip()) - 1, 0)
        return end

    def _require_own(self, node: yaml.Node) -> None:
        if id(node) in self._shared:
            line = node.start_mark.line + 1
            raise self._refusal(f"uses the list of line {line} in several places (an alias)")

    def _refusal(self, found: str) -> ProfileNotEditable:
        return ProfileNotEditable(f"{self._path}: {found}, so nothing can be added; add it by hand")


def _shared(root: yaml.Node) -> set[int]:
    """Nodes that an alias makes a part of several others."""
    seen, twice, pending = set[int](), set[int](), [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            twice.add(id(node))
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            pending += [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value
    return twice


def _value(mapping: yaml.Node | None, key: str) -> yaml.Node | None:
    """Keys are found as the loader finds them: whatever their case."""
    if not isinstance(mapping, yaml.MappingNode):
        return None
    return next((value for name, value in mapping.value if str(name.value).lower() == key.lower()), None)


class _Dumper(yaml.SafeDumper):
    """With the dash of a list further in than its key, and no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as PyYAML calls it
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as PyYAML calls it
        return True


def _dump(value: Any) -> list[str]:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, indent=_INDENT)
    return text.splitlines(keepends=True)


def _block_item(item: Mapping[str, Any], column: int, comment: str) -> list[str]:
    return [*_comment(comment, column), *_indented(_dump([item]), column)]


def _comment(text: str, column: int) -> list[str]:
    plain = "".join(each if each.isprintable() else " " for each in text)
    return [f"{' ' * column}# {plain}\n"] if plain else []


def _indented(lines: Iterable[str], column: int) -> list[str]:
    """A list at the top begins in the first column, whatever the dumper's indentation of lists is."""
    found = list(lines)
    extra = len(found[0]) - len(found[0].lstrip(" ")) if found else 0
    return [f"{' ' * column}{line[extra:]}" for line in found]
