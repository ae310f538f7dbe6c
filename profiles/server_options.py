"""From a profile to what the registry server is started with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from profiles.patterns.globs import Glob
from registry_server.http.auth.access_options import AccessOptions, Tokens
from registry_server.http.auth.access_rules import READ, AccessRules, Grant, RepositoryRule, actions_of
from registry_server.http.auth.certificate_options import CertificateOptions
from registry_server.http.auth.oidc.options import IssuerOptions
from registry_server.http.push.push_limits import PushLimits
from registry_server.http.server_options import ServerOptions, Tls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.content_rule import ContentRule
    from profiles.model.profile import Profile
    from profiles.model.server.access import AccessControl, AccessPolicy, Auth, RepositoryAccess
    from profiles.model.server.client_certificates import ClientCertificates
    from profiles.model.server.http import Http, HttpLimits
    from profiles.model.server.oidc import OidcIssuer
    from profiles.model.sync import Sync

_EVERYTHING = re.compile(Glob.parse("**").expression)


def server_options(profile: Profile) -> ServerOptions:
    """How `serve` and `up` start the server."""
    http = profile.http
    tls, access = http.tls, _access(http, profile.sync)
    return ServerOptions(
        profile.storage.root_directory,
        subpaths=profile.storage.roots(),
        address=http.address,
        port=http.port,
        tls=None if tls is None else Tls(tls.cert, tls.key, tls.cacert),
        trusted_proxies=http.trusted_proxies,
        accel_redirect=http.accel_redirect,
        access_log=profile.log.access,
        audit_log=profile.log.audit,
        audit_pulls=profile.log.audit_pulls,
        access=access,
        header_timeout=http.header_timeout,
        writable=access is not None and access.policy.allows_writing,
        limits=_limits(http.limits),
        shared_file_system=profile.storage.shared_file_system,
        remote=profile.storage.remote(),
    )


def _limits(limits: HttpLimits) -> PushLimits:
    return PushLimits(
        blob_bytes=limits.blob_bytes,
        spare_bytes=limits.spare_bytes,
        body_idle_seconds=limits.body_timeout,
        require_blobs=int(limits.require_blobs),
        sessions=limits.sessions,
        client_sessions=limits.client_sessions,
        session_idle_seconds=limits.session_timeout,
        session_empty_seconds=limits.empty_session_timeout,
    )


def _access(http: Http, sync: Sync) -> AccessOptions | None:
    """None: nothing was said, so everyone reads and nobody writes."""
    if http.auth is None and http.access_control is None:
        return None
    policy = _everyone_reads() if http.access_control is None else _policy(http.access_control, sync)
    if http.auth is None:
        return AccessOptions(policy, external_url=http.external_url)
    return AccessOptions(
        policy,
        None if http.auth.htpasswd is None else http.auth.htpasswd.path,
        _tokens(http.auth),
        http.auth.fail_delay,
        http.external_url,
        tuple(map(_issuer, http.auth.bearer.oidc)),
        None if http.auth.mtls is None else _certificates(http.auth.mtls),
    )


def _certificates(found: ClientCertificates) -> CertificateOptions:
    return CertificateOptions(
        found.identity_attributes,
        found.uri_san_pattern,
        found.uri_san_index,
        found.dns_san_index,
        found.email_san_index,
        found.group_attribute,
    )


def _issuer(found: OidcIssuer) -> IssuerOptions:
    mapping = found.claim_mapping
    return IssuerOptions(
        found.issuer,
        found.audiences,
        mapping.username,
        mapping.groups or "",
        tuple((each.name, each.expression) for each in mapping.variables),
        tuple((each.expression, each.message) for each in mapping.validations),
        found.certificate_authority or "",
        str(found.certificate_authority_file or ""),
    )


def _tokens(auth: Auth) -> Tokens | None:
    bearer = auth.bearer
    return Tokens(auth.token_key_file, bearer.service, bearer.lifetime) if bearer.enable else None


def _everyone_reads() -> AccessRules:
    """`auth` alone: whoever has signed in may read."""
    return AccessRules((RepositoryRule("**", _EVERYTHING, signed_in=READ),))


def _policy(control: AccessControl, sync: Sync) -> AccessRules:
    return AccessRules(
        rules=tuple(_rule(pattern, access) for pattern, access in control.repositories.items()),
        admins=_grant(control.admin_policy),
        groups={name: frozenset(group.users) for name, group in control.groups.items()},
        observers=frozenset(control.metrics.users),
        open_metrics=actions_of(control.metrics.anonymous_policy) >= READ,
        mirrored=tuple(re.compile(text) for text in dict.fromkeys(_mirrored(sync))),
    )


def _rule(pattern: str, access: RepositoryAccess) -> RepositoryRule:
    return RepositoryRule(
        pattern,
        re.compile(Glob.parse(pattern.removeprefix("/")).expression),
        tuple(map(_grant, access.policies)),
        actions_of(access.default_policy),
        actions_of(access.anonymous_policy),
        access.push_to_mirrored,
    )


def _grant(policy: AccessPolicy) -> Grant:
    return Grant(frozenset(policy.users), frozenset(policy.groups), actions_of(policy.actions))


def _mirrored(sync: Sync) -> Iterator[str]:
    """What content rules fill, as regular expressions over local names with a "/" behind them."""
    for entry in sync.registries:
        for rule in entry.content:
            yield from _filled_by(rule)
        if not entry.content and entry.on_demand:
            yield _EVERYTHING.pattern


def _filled_by(rule: ContentRule) -> Iterator[str]:
    destination = f"{rule.destination.strip('/')}/".removeprefix("/")
    base = rule.prefix_pattern.base if rule.strip_prefix else ""
    if rule.images:
        names = {str(image.repository) for image in rule.images}
        yield from (_local(destination, base, re.escape(f"{name}/"), name) for name in sorted(names))
    else:
        yield _local(destination, base, rule.prefix_pattern.expression, rule.prefix_pattern.text)


def _local(destination: str, base: str, expression: str, text: str) -> str:
    """Where names that `expression` takes land: behind `destination`, without `base`."""
    if base and text.strip("/") == base:
        return re.escape(destination)
    if base:
        rest = text.removeprefix(f"{base}/")
        expression = Glob.parse(rest).expression if rest else ""
    return f"{re.escape(destination)}(?:{expression})"
