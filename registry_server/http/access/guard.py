"""Access control at its one place: after the route is parsed, before a handler sees anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from registry_server.http import routes
from registry_server.http.access import needs
from registry_server.http.access.answers import denied, unauthorised
from registry_server.http.access.htpasswd import PasswordFile
from registry_server.http.access.identity import Caller, Doorman
from registry_server.http.access.keys import signing_key
from registry_server.http.access.passwords import Passwords
from registry_server.http.access.policy import NONE, READ, Actions
from registry_server.http.access.scopes import CATALOG, granted, wanted
from registry_server.http.access.tokens import TokenOffice
from registry_server.http.access.visible import VisibleStore
from registry_server.http.access_log import USER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from starlette.requests import Request

    from registry_server.http.access.answers import AccessRefused
    from registry_server.http.access.options import AccessOptions
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store


class Guard:
    """Decides about every request. Raises `AccessUnusable` when a file of `options` cannot be used."""

    def __init__(self, options: AccessOptions, store: Store) -> None:
        self._policy = options.policy
        passwords = office = None
        if options.htpasswd is not None:
            passwords = Passwords(PasswordFile(options.htpasswd), options.fail_delay)
            if options.tokens is not None:
                key = signing_key(options.tokens.key or store.root / "access" / "token-key.pem")
                office = TokenOffice(key, options.tokens.service, options.tokens.lifetime)
        self.doorman = Doorman(passwords, office, options.external_url)

    async def authorise(self, request: Request, route: routes.Route, store: Store) -> Store:
        """The store as the caller may see it. Raises `AccessRefused`.

        Who may not read a repository finds it empty, as if it were not there; who may not write is told
        so, whether it is there or not.
        """
        caller = await self.recognise(request)
        if isinstance(route, routes.Base):
            self._admit_to_base(request, caller)
        elif isinstance(route, routes.Catalog):
            self._admit_to_catalog(request, caller)
            # A token for the catalog stands for all that its user may read.
            caller = Caller(caller.user)
        repository = needs.repository_of(route)
        allowed = repository is not None and await self._may(request, route, store, caller)
        return VisibleStore(
            store, lambda name: "read" in self.rights(caller, name) or (allowed and name == repository)
        )

    async def recognise(self, request: Request) -> Caller:
        """Who calls; noted in the scope, for the access log. Raises `AccessRefused`."""
        caller = await self.doorman.recognise(request)
        if self.doorman.can_sign_in:
            request.scope[USER] = caller.user
        return caller

    def rights(self, caller: Caller, repository: str) -> Actions:
        """What the caller may do in a repository, whether it exists or not."""
        found = self._policy.rights(caller.user, repository)
        return found if caller.claims is None else found & caller.claims.rights(repository)

    def may_observe(self, caller: Caller) -> bool:
        """Whether the caller may read /metrics."""
        policy = self._policy
        if policy.open_metrics or not self.doorman.can_sign_in:
            return True
        return caller.user in policy.observers or policy.is_admin(caller.user)

    def issue(self, caller: Caller, scopes: Iterable[str]) -> dict[str, Any] | None:
        """A token for what the caller may do of `scopes`; None where there are no tokens for him."""
        if self.doorman.office is None or not (caller.user or self._policy.has_anonymous):
            return None
        return self.doorman.office.issue(
            caller.user, granted(scopes, lambda name: self._policy.rights(caller.user, name))
        )

    async def _may(self, request: Request, route: routes.Route, store: Store, caller: Caller) -> bool:
        """True: all that it needs; False: let the handler find nothing. Raises `AccessRefused`."""
        repository = needs.repository_of(route)
        assert repository is not None
        needed = await self._needs(request, route, store)
        if _suffice(self.rights(caller, repository), needed):
            return True
        in_principle = self._policy.rights(caller.user, repository)
        if self.doorman.can_sign_in and (not caller.user or _suffice(in_principle, needed)):
            raise self._challenged(request, caller, wanted(repository, NONE.union(*needed)))
        if needed == [READ]:
            return False
        raise self._denied(repository, in_principle)

    async def _needs(self, request: Request, route: routes.Route, store: Store) -> list[Actions]:
        if isinstance(route, routes.ManifestOf) and request.method == "PUT":
            held = store.repository(route.repository)
            tags = request.query_params.getlist("tag")
            return await asyncio.to_thread(
                needs.needs, request.method, route, tags, lambda tag: held.tag(tag) is not None
            )
        return needs.needs(request.method, route, (), lambda _tag: False)

    def _admit_to_base(self, request: Request, caller: Caller) -> None:
        """401 unless the client has said who it is: most decide here whether to send credentials at all."""
        anonymous = caller.explicit and (self._policy.has_anonymous or not self.doorman.can_sign_in)
        if not caller.user and not anonymous:
            raise self._challenged(request, caller, "")

    def _admit_to_catalog(self, request: Request, caller: Caller) -> None:
        """Each entry is filtered; here only who could see none, and tokens for something else."""
        signs_in = self.doorman.can_sign_in and not caller.user and not self._policy.has_anonymous
        if signs_in or (caller.claims is not None and not caller.claims.catalog):
            raise self._challenged(request, caller, CATALOG)

    def _challenged(self, request: Request, caller: Caller, scope: str) -> AccessRefused:
        error = "insufficient_scope" if caller.claims is not None else ""
        return unauthorised(self.doorman.challenge(request, scope=scope, error=error))

    def _denied(self, repository: RepositoryName, rights: Actions) -> AccessRefused:
        if "read" in rights and self._policy.is_mirrored(repository):
            return denied(f"{repository} is written by the mirror; the profile does not allow to push there")
        return denied(f"not permitted in {repository}")


def _suffice(rights: Actions, needed: Sequence[Actions]) -> bool:
    return all(rights & one for one in needed)
