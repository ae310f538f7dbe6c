"""Warnings about credentials: helpers, and the file. It has secrets: only its host names are ever shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from profiles.errors import Finding, Refusal, Severity
from profiles.model.credential_helper import missing_library
from profiles.values.cloud_registries import helper_for
from profiles.values.upstream_url import UpstreamUrl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiles.loading.key_names import KeyPath
    from profiles.model.credential_helper import Identified
    from profiles.model.profile import Profile
    from profiles.model.sync import Sync

_Found = tuple["KeyPath", str, str]
_FORM = 'write {"host:port": {"username": "…", "password": "…"}}'
_PATH: KeyPath = ("sync", "credentialsFile")
_DOCKER_KEYS = {"auths", "credHelpers", "credsStore"}
_TOKENS = ("auth", "identitytoken", "registrytoken")  # beside a user name and a password


def check(sync: Sync) -> Iterator[_Found | Finding]:
    """Path, what was found, what to write instead. A file that is missing or broken fails every run."""
    if sync.credentials_file is None:
        return
    try:
        content = _read(sync.credentials_file)
    except Refusal as refusal:
        found = f"{refusal.found}: every request to an upstream will fail"
        yield Finding(_PATH, found, refusal.write, Severity.FAILS)
        return
    if content.keys() & _DOCKER_KEYS:
        yield from _on_docker(content)
        return
    used = {url.registry for entry in sync.registries for url in entry.urls}
    for host, value in content.items():
        yield from _on_host(host, value, used)


def _on_docker(content: dict[str, Any]) -> Iterator[_Found]:
    """docker's config.json and podman's auth.json: they hold more than this profile needs, and an empty entry
    means that `credsStore` has the login."""
    auths = content.get("auths") or {}
    if not isinstance(auths, dict):
        yield _PATH, "`auths` of the file is not an object", 'write {"auths": {"host:port": {"auth": "…"}}}'
        return
    for host, value in auths.items():
        if not isinstance(value, dict) or (value and not _has_login(value)):
            yield (
                _PATH,
                f"`auths` of the file has no login for {_shown(host)}",
                "log in again: docker login HOST",
            )


def _shown(host: str) -> str:
    """A key is shown only if it is a host: it may be user:password@host."""
    try:
        return repr(UpstreamUrl.parse(host).registry)
    except Refusal:
        return "one of its hosts"


def _has_login(value: dict[str, Any]) -> bool:
    return any(isinstance(value.get(key), str) and value[key] for key in _TOKENS) or _has_password(value)


def _has_password(value: dict[str, Any]) -> bool:
    return all(isinstance(value.get(key), str) for key in ("username", "password"))


def _read(file: Path) -> dict[str, Any]:
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
        # Not shown: it may be user:password@host.
        yield _PATH, "a key of the file is not a host", _FORM
        return
    if not isinstance(value, dict) or not _has_login(value):
        yield _PATH, f"the file has no username and password for {registry!r}", _FORM
    if registry not in used:
        yield (
            _PATH,
            f"the file has credentials for {registry!r}, and no registry entry uses it",
            ("drop them, or write the host as urls has it, with its port"),
        )


def check_helpers(profile: Profile) -> Iterator[_Found | Finding]:
    """`credentialHelper` of registry entries and destinations: the library, and whose registry it is."""
    places: list[tuple[KeyPath, Identified, tuple[UpstreamUrl, ...]]] = [
        (("sync", "registries", number), entry, entry.urls)
        for number, entry in enumerate(profile.sync.registries)
    ]
    places += [
        (("destinations", number), each, each.urls) for number, each in enumerate(profile.destinations)
    ]
    for path, settings, urls in places:
        yield from _on_helper((*path, "credentialHelper"), settings.credential_helper, urls)


def _on_helper(
    path: KeyPath, helper: str | None, urls: tuple[UpstreamUrl, ...]
) -> Iterator[_Found | Finding]:
    if helper is None:
        return
    if missing := missing_library(helper):
        found = f"{helper} does not work here, {missing.partition(':')[0]}: every login will fail"
        yield Finding(path, found, missing.partition(": ")[2], Severity.FAILS)
    for url in urls:
        meant = helper_for(url.host)
        if helper != "oauth2" and meant not in (None, helper):
            yield path, f"{url.host} is a registry that takes {meant!r}", f"write {meant!r}"
        if url.scheme == "http" and not url.is_loopback:
            yield path, f"{url} gets the token in plain text", "use https"
