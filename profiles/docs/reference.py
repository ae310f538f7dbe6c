"""docs/profile.md and the JSON Schema, made from the models: what a field says is said once."""

from __future__ import annotations

import enum
import types
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from profiles.loading.key_names import sections
from profiles.model.fields import ProfileModel
from profiles.model.profile import Profile
from profiles.patterns.select_expression import DOCUMENT
from profiles.values.durations import format_duration

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_HEAD = """\
# The profile

<!-- Made by `profiles/docs/reference.py` from the models: change the descriptions there. -->

A profile says what to mirror, where to keep it and how to serve it. It is YAML, JSON or TOML (told by
the suffix, else by the look of the text). Keys are written in camelCase or snake_case. A key that is
not known is an error, and so is a key that stands twice. `mirrorflow check PROFILE` reports everything
that is wrong at once, with file, line and column; `mirrorflow schema` prints a JSON schema for editors.

- **Durations** are `500ms`, `30s`, `5m`, `6h`, `1h30m`, `2d`, or a bare number of seconds.
- **Paths** that are relative begin at the folder of the profile; `~` is the home folder.
- **Repositories** of a rule are upstream names, without the path of the URL.
- **To begin with**: `profiles/examples/starter.yaml` has every key with a comment,
  `profiles/examples/demo.yaml` is what `make demo` runs, and the others there are the examples of zot's
  documentation.
"""
_AFTER = {
    "sync.registries[].content[]": """
### How repositories are matched and named

A pattern's *base* are its segments before the first one with a meta character (all of them, if there is
none). An image lands under `destination` + the upstream name, and with `stripPrefix` the base is left
out of the latter:

| prefix | destination | stripPrefix | upstream | here |
|---|---|---|---|---|
| `/repo2/repo` | `/repo2` | true | `repo2/repo` | `repo2` |
| `**` | `/docker-images` | false | `alpine` | `docker-images/alpine` |
| `a/**` | `/x` | true | `a/b/c` | `x/b/c` |
| `a/foo*` | `/x` | true | `a/foo-1` | `x/foo-1` |
| `library/{alpine,busybox}` | `/x` | true | `library/alpine` | `x/alpine` |

All rules that match apply, so that one repository may land in several places. Two rules that would put
different content under one name are warned about; a tag stays with the one that it came from first, for as
long as the profile wants it from there.
""",
    "sync.registries[].content[].tags": """
### Versions in tags

Tags are read as leniently as zot does: `v1`, `1.2`, `01.02.3`, `20240101` are versions. What follows a
dash may be a pre-release (`1.2.0-rc.1`) or a variant (`3.19-alpine`); both are read as pre-releases,
for a tag does not say which it is. To keep to variants, name them: `regex: ".*-alpine"` with `semver:
true` and `newest`. Tags that spell the same version (`1.2` and `1.2.0`) count as one for `newest`.

| range | takes |
|---|---|
| `>=1.2 <2` | from 1.2.0 up to, and without, 2.0.0 |
| `1.x`, `1.2`, `1.2.*` | 1.anything; 1.2.anything |
| `^1.2`, `^0.2.3` | `>=1.2 <2`; `>=0.2.3 <0.3` |
| `~1.2.3`, `~1` | `>=1.2.3 <1.3`; `>=1 <2` |
| `1.2 - 2.3` | `>=1.2 <2.4` |
| `<1 \\|\\| >=2` | either |
| `>=1.2-0` | from 1.2 on, pre-releases and variants too |

cosign's tags (`sha256-<64 hex digits>.sig`, `.att`, `.sbom`) are left to the image that they belong to.
Without such an ending the content decides: a list of referrers is left out, an image is taken like any other.

Expressions are those of zot (RE2), and take linear time.
""",
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def render_reference() -> str:
    """The whole page, in markdown."""
    pages = [_section(name, model) for name, model in sections()]
    return "\n".join([_HEAD, *pages, _selection()])


def _section(name: str, model: type[ProfileModel]) -> str:
    rows = [_row(field_name, info) for field_name, info in model.model_fields.items()]
    return "\n".join(
        [
            f"## {f'`{name}`' if name else 'The top'}",
            "",
            (model.__doc__ or "").strip(),
            "",
            "| key | value | default | meaning |",
            "|---|---|---|---|",
            *rows,
            _AFTER.get(name, ""),
        ]
    )


def _row(name: str, info: FieldInfo) -> str:
    example = f" E.g. `{_shown(info.examples[0])}`." if info.examples else ""
    cells = (f"`{info.alias or name}`", _kind(info), _default(info), f"{info.description}{example}")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(info: FieldInfo) -> str:
    schemas = [entry.json_schema for entry in info.metadata if hasattr(entry, "json_schema")]
    return _words(info.annotation, schemas[0] if schemas else None)


def _words(annotation: Any, schema: dict[str, Any] | None = None) -> str:
    """The type of a value, in a word or two."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found = [entry.json_schema for entry in arguments[1:] if hasattr(entry, "json_schema")]
        return _words(arguments[0], found[0] if found else schema)
    if origin in (Union, types.UnionType):
        return _words(next(one for one in arguments if one is not types.NoneType), schema)
    if origin is tuple:
        return f"list of {_plural(_words(arguments[0]))}"
    if origin is dict:
        return {Any: "section", str: "texts by name"}.get(arguments[1], "sections by name")
    if isinstance(annotation, type) and issubclass(annotation, ProfileModel):
        return f"list (its `{annotation.list_for}`) or section" if annotation.list_for else "section"
    return _word(annotation, schema or {})


def _word(annotation: Any, schema: dict[str, Any]) -> str:
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of the words"
    if "anyOf" in schema:
        return "duration"
    words = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}
    return words.get(annotation, "text")


def _plural(word: str) -> str:
    return word if word.endswith("s") else f"{word}s"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.default
    if value is PydanticUndefined or value is None or value in ("", ()):
        return ""
    return f"`{_shown(format_duration(value) if _kind(info) == 'duration' else value)}`"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _selection() -> str:
    rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in DOCUMENT.items())
    return f"""\
## What `select` can look at

| name | meaning |
|---|---|
{rows}

[JMESPath](https://jmespath.org) in short: `labels."org.example.team" == 'web'` (names with dots in
double quotes, texts in single quotes), `contains(platforms, 'linux/arm64')`, ``created > `1700000000`
`` (numbers in backquotes), `!(…)`, `&&`, `||`. An expression that gives anything but true, or cannot be
evaluated, takes nothing; `mirrorflow explain` shows what it gave.
"""


def json_schema() -> dict[str, Any]:
    """For editors. Profiles in camelCase; `extensions.sync` is described like `sync`."""
    schema = Profile.model_json_schema(by_alias=True, mode="validation")
    sync = schema["properties"]["sync"]
    schema["properties"]["extensions"] = {
        "type": "object",
        "description": "zot's place for `sync`.",
        "properties": {"sync": sync},
    }
    # Editors look here, and a profile may say which schema it follows in a comment only.
    return {
        "$schema": _DIALECT,
        "title": "mirrorflow profile",
        **{k: v for k, v in schema.items() if k != "title"},
    }
