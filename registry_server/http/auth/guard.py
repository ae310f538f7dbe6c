"""Access control at its one place: after the route is parsed, before a handler sees anything."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from registry_server.http import routes
from registry_server.http.access_log import USER
from registry_server.http.audit_log import RIGHTS
from registry_server.http.auth.access_rules import NONE, READ, Actions
from registry_server.http.auth.auth_errors import denied, unauthorised
from registry_server.http.auth.authentication import Caller, RequestAuthenticator
from registry_server.http.auth.client_certificates import CertificateReader
from registry_server.http.auth.htpasswd import PasswordFile
from registry_server.http.auth.oidc.issuers import Issuers
from registry_server.http.auth.password_checker import PasswordChecker
from registry_server.http.auth.signing_key import KeyFile
from registry_server.http.auth.token_scopes import CATALOG, grant_claims, required_scope
from registry_server.http.auth.tokens import TokenIssuer
from registry_server.http.auth.visible_store import VisibleStore
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName, Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from starlette.requests import Request

    from registry_server.http.auth.access_options import AccessOptions
    from registry_server.http.auth.auth_errors import AccessRefused
    from registry_server.store.store import Store

_CREATE: Actions = frozenset({"create"})
_UPDATE: Actions = frozenset({"update"})
_DELETE: Actions = frozenset({"delete"})
_UPLOAD = _CREATE | _UPDATE  # who may only move tags must bring the new layers too


class Guard:
    """Decides about every request. Raises `AccessUnusable` when a file of `options` cannot be used."""

    def __init__(self, options: AccessOptions, store: Store) -> None:
        self._policy = options.policy
        passwords = token_issuer = None
        if options.htpasswd is not None:
            passwords = PasswordChecker(PasswordFile(options.htpasswd), options.fail_delay)
        if options.tokens is not None and (passwords or options.issuers or options.certificates):
            named = options.tokens.key
            keys = KeyFile(named or store.root / "access" / "token-key.pem", create=named is None)
            tokens = options.tokens
            token_issuer = TokenIssuer(keys.current, tokens.service, tokens.lifetime)
        self.authenticator = RequestAuthenticator(
            passwords,
            token_issuer,
            options.external_url,
            Issuers(options.issuers),
            CertificateReader(options.certificates) if options.certificates else None,
        )

    async def authorise(self, request: Request, route: routes.Route, store: Store) -> Store:
        """The store as the caller may see it. Raises `AccessRefused`.

        Who may not read a repository finds it empty, as if it were not there; who may not write is told
        so, whether it is there or not.
        """
        caller = await self.authenticate(request)
        if isinstance(route, routes.Base):
            self._admit_to_base(request, caller)
        elif isinstance(route, routes.Catalog):
            self._admit_to_catalog(request, caller)
            # A token for the catalog stands for all that its user may read.
            caller = replace(caller, claims=None)
        repository = repository_of(route)
        allowed = repository is not None and await self._may(request, route, store, caller)
        return VisibleStore(
            store, lambda name: "read" in self.rights(caller, name) or (allowed and name == repository)
        )

    async def authenticate(self, request: Request) -> Caller:
        """Who calls; noted in the scope, for the access log. Raises `AccessRefused`."""
        caller = await self.authenticator.authenticate(request)
        if self.authenticator.can_sign_in:
            request.scope[USER] = caller.user
        return caller

    def rights(self, caller: Caller, repository: str) -> Actions:
        """What the caller may do in a repository, whether it exists or not."""
        found = self._policy.rights(caller.user, repository, caller.groups)
        return found if caller.claims is None else found & caller.claims.rights(repository)

    def must_sign_in(self, caller: Caller) -> bool:
        """Whether nobody without a name may see anything, and the caller has none."""
        return self.authenticator.can_sign_in and not caller.user and not self._policy.has_anonymous

    def may_observe(self, caller: Caller) -> bool:
        """Whether the caller may read /metrics, for which there is no scope that a token could have."""
        policy = self._policy
        if policy.open_metrics or not self.authenticator.can_sign_in:
            return True
        if caller.claims is not None:
            return False
        return caller.user in policy.observers or policy.is_admin(caller.user, caller.groups)

    def issue(self, caller: Caller, scopes: Iterable[str]) -> dict[str, Any] | None:
        """A token for what the caller may do of `scopes`; None where there are no tokens for him."""
        if self.authenticator.token_issuer is None or not (caller.user or self._policy.has_anonymous):
            return None
        return self.authenticator.token_issuer.issue(
            caller.user,
            grant_claims(scopes, lambda name: self._policy.rights(caller.user, name, caller.groups)),
            groups=caller.groups,
            issuer=caller.issuer,
            until=caller.until,
        )

    async def _may(self, request: Request, route: routes.Route, store: Store, caller: Caller) -> bool:
        """True: all that it needs; False: let the handler find nothing. Raises `AccessRefused`."""
        repository = repository_of(route)
        assert repository is not None
        needed = await self._required_actions(request, route, store)
        rights = self.rights(caller, repository)
        request.scope[RIGHTS] = [rights & one or one for one in needed]
        if _suffice(rights, needed):
            return True
        in_principle = self._policy.rights(caller.user, repository, caller.groups)
        if self.authenticator.can_sign_in and (not caller.user or _suffice(in_principle, needed)):
            raise self._challenged(request, caller, required_scope(repository, NONE.union(*needed)))
        if needed == [READ]:
            return False
        raise self._denied(repository, in_principle)

    async def _required_actions(self, request: Request, route: routes.Route, store: Store) -> list[Actions]:
        if isinstance(route, routes.ManifestOf) and request.method == "PUT":
            held = store.repository(route.repository)
            tags = request.query_params.getlist("tag")
            return await asyncio.to_thread(
                required_actions, request.method, route, tags, lambda tag: held.tag(tag) is not None
            )
        return required_actions(request.method, route, (), lambda _tag: False)

    def _admit_to_base(self, request: Request, caller: Caller) -> None:
        """401 unless the client has said who it is: most decide here whether to send credentials at all."""
        anonymous = caller.explicit and (self._policy.has_anonymous or not self.authenticator.can_sign_in)
        if not caller.user and not anonymous:
            raise self._challenged(request, caller, "")

    def _admit_to_catalog(self, request: Request, caller: Caller) -> None:
        """Each entry is filtered; here only who could see none, and tokens for something else."""
        if self.must_sign_in(caller) or (caller.claims is not None and not caller.claims.catalog):
            raise self._challenged(request, caller, CATALOG)

    def _challenged(self, request: Request, caller: Caller, scope: str) -> AccessRefused:
        error = "insufficient_scope" if caller.claims is not None else ""
        return unauthorised(self.authenticator.challenge(request, scope=scope, error=error))

    def _denied(self, repository: RepositoryName, rights: Actions) -> AccessRefused:
        if "read" in rights and self._policy.is_mirrored(repository):
            return denied(f"{repository} is written by the mirror; clients need `pushToMirrored: true`")
        return denied(f"not permitted in {repository}")


def _suffice(rights: Actions, needed: Sequence[Actions]) -> bool:
    return all(rights & one for one in needed)


# What a request needs, from the parsed route and the method: never from a URL. Pure but for one look.


def required_actions(
    method: str, route: routes.Route, tags: Sequence[str], tag_exists: Callable[[Tag], bool]
) -> list[Actions]:
    """Of each set one action is needed. `tags` are those of the query (distribution-spec end-7b).

    zot's distinction: a tag that is there is updated, anything else is created.
    """
    match route:
        case routes.UploadOf():
            return [_UPLOAD]
        case routes.ManifestOf(reference=reference) if method == "PUT":
            named = [each for each in (reference, *map(_tag, tags)) if isinstance(each, Tag)]
            return [_UPDATE if tag_exists(tag) else _CREATE for tag in named] or [_UPLOAD]
        case routes.ManifestOf() | routes.BlobOf() if method == "DELETE":
            return [_DELETE]
        case routes.ManifestOf() | routes.BlobOf() | routes.Tags() | routes.Referrers():
            return [READ] if method in ("GET", "HEAD") else [_UPLOAD]
    return []


def repository_of(route: routes.Route) -> RepositoryName | None:
    """The repository that a route is about; None for the base and the catalog."""
    return getattr(route, "repository", None)


def _tag(text: str) -> Tag | None:
    try:
        return Tag(text)
    except InvalidName:
        return None  # the handler says so
