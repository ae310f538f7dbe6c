"""Warnings about who can reach the registry server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.http.listener import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.loading.key_names import KeyPath
    from profiles.model.server.access import AccessControl, Auth
    from profiles.model.server.http import Http

_WRITING = {"create", "update", "delete"}


def check(http: Http) -> Iterator[tuple[KeyPath, str, str]]:
    """Path, what was found, what to write instead."""
    yield from _on_address(http)
    if http.auth is not None:
        yield from _on_auth(http.auth)
    if http.access_control is not None:
        tokens = http.auth is not None and bool(http.auth.bearer.oidc)  # which may have any group
        yield from _on_control(http.access_control, signs_in=http.auth is not None, any_group=tokens)


def _on_address(http: Http) -> Iterator[tuple[KeyPath, str, str]]:
    if is_local(http.address):
        return
    where = f"other machines reach {http.address}"
    if http.auth is None and http.tls is None:
        found = f"{where}, without TLS and without signing in: everyone there can read everything"
        yield ("http", "address"), found, "add http.tls and http.auth, or write 127.0.0.1"
    elif http.tls is None:
        found = f"{where} without TLS: passwords and tokens travel in the clear"
        yield ("http", "address"), found, "add http.tls, or let a proxy with TLS be the only one to reach it"
    elif http.auth is None and http.tls.cacert is None:
        found = f"{where} without signing in: everyone there can read everything"
        yield ("http", "address"), found, "add http.auth or http.tls.cacert, or write 127.0.0.1"


def _on_auth(auth: Auth) -> Iterator[tuple[KeyPath, str, str]]:
    if auth.htpasswd is not None and not auth.htpasswd.path.is_file():
        found = f"there is no file {auth.htpasswd.path}: the server will not start"
        yield ("http", "auth", "htpasswd", "path"), found, "make it: htpasswd -B -c FILE USER"


def _on_control(
    control: AccessControl, *, signs_in: bool, any_group: bool
) -> Iterator[tuple[KeyPath, str, str]]:
    here: KeyPath = ("http", "accessControl")
    if not signs_in and _names_users(control):
        yield here, "names users, and no user can sign in", "add http.auth.htpasswd"
    for pattern, access in control.repositories.items():
        path = (*here, "repositories", pattern)
        if _WRITING.intersection(access.anonymous_policy):
            found = "everyone who reaches the server may write here, without signing in"
            yield (*path, "anonymousPolicy"), found, "write [read], and name who may write in policies"
        for number, policy in enumerate(access.policies):
            for group in policy.groups:
                if group not in control.groups and not any_group:
                    found = f"there is no group {group!r}"
                    yield (*path, "policies", number, "groups"), found, "add it to accessControl.groups"
    for group in control.admin_policy.groups:
        if group not in control.groups and not any_group:
            yield (*here, "adminPolicy", "groups"), f"there is no group {group!r}", "add it to groups"


def _names_users(control: AccessControl) -> bool:
    policies = [control.admin_policy, *(p for each in control.repositories.values() for p in each.policies)]
    return any(policy.users or policy.groups for policy in policies)
