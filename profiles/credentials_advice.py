"""Warnings about the credentials file. It holds secrets: only its host names are ever repeated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from profiles.errors import Refusal
from profiles.upstream_url import UpstreamUrl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as File

    from profiles.sync import Sync
    from profiles.vocabulary import Path

_Found = tuple["Path", str, str]
_FORM = 'write {"host:port": {"username": "…", "password": "…"}}'
_PATH: Path = ("sync", "credentialsFile")


def advise(sync: Sync) -> Iterator[_Found]:
    """Path, what was found, what to write instead. A file that is missing or broken means no credentials."""
    if sync.credentials_file is None:
        return
    try:
        content = _read(sync.credentials_file)
    except Refusal as refusal:
        yield _PATH, f"{refusal.found}: requests will be anonymous", refusal.write
        return
    used = {url.registry for entry in sync.registries for url in entry.urls}
    for host, value in content.items():
        yield from _on_host(host, value, used)


def _read(file: File) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise Refusal(f"there is no file {str(file)!r}", "correct the path, or drop it") from None
    except OSError as error:
        raise Refusal(f"{str(file)!r} cannot be read ({error.strerror})", "correct it") from error
    except ValueError as error:
        where = (
            f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        )
        raise Refusal(f"{str(file)!r} is not JSON{where}", _FORM) from None
    if not isinstance(content, dict):
        raise Refusal(f"{str(file)!r} is not a JSON object", _FORM)
    return content


def _on_host(host: str, value: Any, used: set[str]) -> Iterator[_Found]:
    try:
        registry = UpstreamUrl.parse(host).registry
    except Refusal:
        # Not repeated: somebody may have written user:password@host.
        yield _PATH, "a key of the file is not a host", _FORM
        return
    texts = (value.get("username"), value.get("password")) if isinstance(value, dict) else ()
    if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
        yield _PATH, f"the file has no username and password for {registry!r}", _FORM
    if registry not in used:
        yield (
            _PATH,
            f"the file has credentials for {registry!r}, and no registry entry uses it",
            ("drop them, or write the host as urls has it, with its port"),
        )
