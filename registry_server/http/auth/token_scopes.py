"""Scopes of tokens, `repository:library/nginx:pull,push`, and the actions that they stand for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from registry_server.http.auth.access_rules import ALL, NONE, Actions
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MOST_SCOPES = 100
CATALOG = "registry:catalog:*"
_MEANING: dict[str, Actions] = {
    "pull": frozenset({"read"}),
    "push": frozenset({"create", "update"}),
    "delete": frozenset({"delete"}),
    "*": ALL,
}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token may be used for, at most: never more than the policy gives its user."""

    repositories: Mapping[str, Actions]
    catalog: bool = False

    def rights(self, repository: str) -> Actions:
        return self.repositories.get(repository, NONE)

    def to_json(self) -> list[dict[str, Any]]:
        """The `access` claim, as the token specification of the distribution project has it."""
        found: list[dict[str, Any]] = [
            {"type": "repository", "name": name, "actions": _words(actions)}
            for name, actions in self.repositories.items()
        ]
        return found + ([{"type": "registry", "name": "catalog", "actions": ["*"]}] if self.catalog else [])

    @classmethod
    def from_json(cls, found: Iterable[Mapping[str, Any]]) -> Self:
        entries = list(found)
        return cls(
            {each["name"]: actions_for(each["actions"]) for each in entries if each["type"] == "repository"},
            any(each["type"] == "registry" and each["name"] == "catalog" for each in entries),
        )


def grant_claims(scopes: Iterable[str], rights: Callable[[str], Actions]) -> Claims:
    """What a token gets of the scopes asked for: less without a word, as the token specification says."""
    repositories: dict[str, Actions] = {}
    catalog = False
    for scope in list(scopes)[:MOST_SCOPES]:
        kind, _, rest = scope.partition(":")
        name, _, words = rest.rpartition(":")
        catalog = catalog or scope == CATALOG
        # `repository(plugin):…` is how Docker asks for plugins.
        if kind.partition("(")[0] == "repository" and RepositoryName.is_valid(name):
            actions = actions_for(words.split(",")) & rights(name)
            if actions:
                repositories[name] = repositories.get(name, NONE) | actions
    return Claims(repositories, catalog)


def required_scope(repository: str, actions: Actions) -> str:
    """The scope to ask for; with `push` goes `pull`, without which no client can push."""
    words = _words(actions)
    return f"repository:{repository}:{','.join(words if words != ['push'] else ['pull', 'push'])}"


def actions_for(words: Iterable[str]) -> Actions:
    return NONE.union(*(_MEANING.get(word, NONE) for word in words))


def _words(actions: Actions) -> list[str]:
    return [word for word in ("pull", "push", "delete") if _MEANING[word] & actions]
