"""Images of files: Kubernetes manifests, Compose files, and lists of images."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import yaml

from flows.cover.used_images import Use, uses_of
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN: Final = Path("-")
_MOST_BYTES: Final = 64 * 2**20  # `kubectl get pods -A -o json` of 5,000 pods has some 40 MB
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_CHART: Final = "Chart.yaml"
_DEEPEST: Final = 200  # levels; a manifest has some twenty
_SAFE: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_NO_TYPES: Final = ("tag:yaml.org,2002:value", "tag:yaml.org,2002:timestamp")


class _Loader(_SAFE):  # type: ignore[misc] # which of both it is depends on how PyYAML was built
    """`=` and `2024-13-45` are texts, as YAML 1.2 and helm have it. By YAML 1.1 they have types that nothing
    can be made of, and resources in many charts hold a plain `=`."""

    yaml_implicit_resolvers: ClassVar = {
        first: [each for each in resolvers if each[0] not in _NO_TYPES]
        for first, resolvers in _SAFE.yaml_implicit_resolvers.items()
    }


class ManifestsUnreadable(MirrorflowError):
    """A file is not there, or is no YAML."""


def uses_of_manifests(path: Path) -> Iterator[Use]:
    """Of a file, of every YAML and JSON file below a folder, or of standard input (`-`).

    Raises `ManifestsUnreadable`.
    """
    for file in _files(path):
        yield from uses_of_text(_read(file), str(file) if file != STDIN else "standard input")


def uses_of_text(text: str, name: str) -> Iterator[Use]:
    """Of YAML with any number of documents; `name` is what errors call it. Raises `ManifestsUnreadable`."""
    try:
        for document in _documents(text, name):
            yield from _of_compose(document, name) if _is_compose(document) else uses_of(document)
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestsUnreadable(f"{name}{_place(error)}: not YAML{_advice(text)}") from error
    except RecursionError as error:
        raise ManifestsUnreadable(f"{name}: nested too deeply for a manifest") from error


def uses_of_list(path: Path) -> Iterator[Use]:
    """Of a text with an image a line; what follows `#` is a comment. Raises `ManifestsUnreadable`."""
    name = str(path) if path != STDIN else "standard input"
    for number, line in enumerate(_read(path).splitlines(), 1):
        if image := line.partition("#")[0].strip():
            yield Use(image, f"{name}:{number}")


def _documents(text: str, name: str) -> Iterator[Any]:
    """JSON is YAML too, and read ten times as fast. The loader in C recurses without a limit of its own."""
    if text.lstrip().startswith("{"):
        with suppress(json.JSONDecodeError):
            yield json.loads(text)
            return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ManifestsUnreadable(f"{name}: nested too deeply for a manifest")
    yield from yaml.load_all(text, Loader=_Loader)


def _files(path: Path) -> list[Path]:
    if path == STDIN or not path.is_dir():
        return [path]
    if (path / _CHART).is_file():
        raise ManifestsUnreadable(
            f"{path} is a Helm chart, whose files are templates: give it with --chart, or render it "
            "(`helm template`) and give the result"
        )
    found = sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file())
    if not found:
        raise ManifestsUnreadable(f"{path}: there is no file *.yaml, *.yml or *.json below it")
    return found


def _read(path: Path) -> str:
    try:
        if path == STDIN:
            content = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ManifestsUnreadable(f"{path}: there is no such file or folder") from None
    except OSError as error:
        raise ManifestsUnreadable(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestsUnreadable(f"{path}: not UTF-8 text") from error
    if len(content) > _MOST_BYTES:
        raise ManifestsUnreadable(f"{path}: larger than {_MOST_BYTES >> 20} MiB; divide it")
    return text


def _is_compose(document: Any) -> bool:
    return (
        isinstance(document, dict) and "kind" not in document and isinstance(document.get("services"), dict)
    )


def _of_compose(document: dict[str, Any], name: str) -> Iterator[Use]:
    for service, keys in document["services"].items():
        if isinstance(keys, dict) and isinstance(image := keys.get("image"), str) and image.strip():
            yield Use(image.strip(), f"{name}, service {service}")


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def _advice(text: str) -> str:
    if "{{" in text:
        return "; it looks like a template of Helm: give the chart with --chart, or render it first"
    return "; correct it, or leave the file out"
