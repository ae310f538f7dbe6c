"""Pydantic's errors in the words of a profile: what was found, and what to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiles.errors import Refusal, Refusals
from profiles.loading.key_names import model_in
from profiles.model.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from profiles.loading.key_names import KeyPath
    from profiles.model.fields import ProfileModel

_LONGEST = 60
_KINDS = {
    "bool": ("true or false", "write true or false, without quotes"),
    "int": ("a whole number", "write a whole number"),
    "float": ("a number", "write a number"),
    "string": ("a text", "put it in quotes"),
    "path": ("a path", "write a path in quotes"),
    "tuple": ("a list", "write a list"),
    "model": ("a section with keys", "write keys and values below it"),
    "dict": ("a section with keys", "write keys and values below it"),
}
_BOUNDS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}
_BOUND_WORDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that the models do not take; without the values `removed` it would not be raised."""

    path: KeyPath
    found: str
    write: str
    removed: tuple[KeyPath, ...]
    consequence_of: tuple[KeyPath, ...] = ()
    empty: bool = False  # a list without items


def field_errors(error: ValidationError) -> Iterator[FieldError]:
    """Each error in turn; those that carry several refusals give several."""
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        path: KeyPath = detail["loc"]
        if isinstance(cause, Refusals):
            yield from (_of_refusal(refusal, path) for refusal in cause.refusals)
        elif isinstance(cause, Refusal):
            yield _of_refusal(cause, path)
        else:
            yield _of_detail(detail, path)


def format_value(value: Any) -> str:
    """A value in a message: short, and never with what may be a password in a URL."""
    if isinstance(value, dict):
        return "a section with keys"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and "@" in value and "/" in value:
        return "the text"
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _of_refusal(refusal: Refusal, path: KeyPath) -> FieldError:
    culprit = (*path, *refusal.at)
    involved = tuple((*path, name) for name in refusal.involves)
    causes = (culprit, *involved, *([refusal.cause] if refusal.cause else []))
    return FieldError(culprit, refusal.found, refusal.write, (culprit, *involved), causes)


def _of_detail(detail: ErrorDetails, path: KeyPath) -> FieldError:
    found, write = _words(detail, path)
    if detail["type"] == "missing":
        return FieldError(path[:-1], found, write, (path,), (path,))
    return FieldError(path, found, write, (path,), empty=detail["type"] == "too_short")


def _words(detail: ErrorDetails, path: KeyPath) -> tuple[str, str]:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "missing":
        return f"the key {str(path[-1])!r} is missing", f"add it{_example(path)}"
    if kind in _BOUNDS:
        name = _BOUNDS[kind]
        return f"{format_value(value)} is out of bounds", f"write {_BOUND_WORDS[name]} {context[name]:g}"
    if kind == "enum":
        return f"{format_value(value)} is not known here", f"write {context['expected']}"
    if kind in ("too_short", "string_too_short"):
        return "nothing is listed" if kind == "too_short" else "an empty text", f"write one{_example(path)}"
    named = kind.partition("_")[0]
    expected, advice = _KINDS.get("tuple" if named == "model" and _is_a_list(path) else named, ("", ""))
    if expected:
        return f"{format_value(value)} is not {expected}", f"{advice}{_example(path)}"
    return detail["msg"].lower(), "correct it"


def _example(path: KeyPath) -> str:
    info = _field(path)
    if info is None or not info.examples:
        return ""
    example = info.examples[0]
    return f", e.g. {info.alias}: {example if not isinstance(example, str) else repr(example)}"


def _is_a_list(path: KeyPath) -> bool:
    """Whether a list is the short way to write the section that belongs there."""
    info = _field(path)
    model = model_in(info.annotation) if info else None
    return model is not None and bool(model.list_for)


def _field(path: KeyPath) -> FieldInfo | None:
    """The field that `path` leads to."""
    model: type[ProfileModel] | None = Profile
    info = None
    for name in (part for part in path if isinstance(part, str)):
        fields = {field.alias: field for field in model.model_fields.values()} if model else {}
        if name in fields:
            info = fields[name]
            model = model_in(info.annotation)
    return info
