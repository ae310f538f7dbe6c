"""Who may do what in which repository: pure decisions, in zot's vocabulary (`accessControl`).

The longest pattern that takes a repository decides, and no other; beside it there is the admins' grant.
Nothing here depends on what the store holds, so no answer tells whether a repository exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Action = Literal["read", "create", "update", "delete"]
Actions = frozenset[Action]
ALL: Actions = frozenset(get_args(Action))
READ: Actions = frozenset({"read"})
NONE: Actions = frozenset()


@dataclass(frozen=True, slots=True)
class Grant:
    """What these users, and the members of these groups, may do."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    actions: Actions = NONE

    def to(self, user: str, groups: frozenset[str]) -> Actions:
        return self.actions if user in self.users or groups & self.groups else NONE

    def to_json(self) -> dict[str, Any]:
        return {"users": sorted(self.users), "groups": sorted(self.groups), "actions": sorted(self.actions)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        return cls(frozenset(found["users"]), frozenset(found["groups"]), actions_of(found["actions"]))


@dataclass(frozen=True, slots=True)
class RepositoryRule:
    """What holds for the repositories that `regex` takes (their name with a "/" behind it, as a whole)."""

    pattern: str  # as it was written: the longest wins
    regex: re.Pattern[str]
    grants: tuple[Grant, ...] = ()
    signed_in: Actions = NONE  # zot: defaultPolicy
    anonymous: Actions = NONE  # zot: anonymousPolicy
    over_mirrored: bool = False  # writing also where a content rule of the profile writes

    def to(self, user: str, groups: frozenset[str]) -> Actions:
        """What `user` may do; "" is nobody in particular. Who signs in keeps what is everybody's."""
        if not user:
            return self.anonymous
        return self.anonymous.union(self.signed_in, *(grant.to(user, groups) for grant in self.grants))

    def to_json(self) -> dict[str, Any]:
        return {
            "pattern": self.pattern,
            "regex": self.regex.pattern,
            "grants": [grant.to_json() for grant in self.grants],
            "signedIn": sorted(self.signed_in),
            "anonymous": sorted(self.anonymous),
            "overMirrored": self.over_mirrored,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        return cls(
            found["pattern"],
            re.compile(found["regex"]),
            tuple(map(Grant.from_json, found["grants"])),
            actions_of(found["signedIn"]),
            actions_of(found["anonymous"]),
            found["overMirrored"],
        )


@dataclass(frozen=True, slots=True)
class AccessRules:
    """All rules. `mirrored` are the repositories that content rules own, as regular expressions."""

    rules: tuple[RepositoryRule, ...] = ()
    admins: Grant = Grant()
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    observers: frozenset[str] = frozenset()  # who may read /metrics beside the admins
    mirrored: tuple[re.Pattern[str], ...] = ()
    open_metrics: bool = False  # everyone may read /metrics

    def rights(self, user: str, repository: str, groups: frozenset[str] = frozenset()) -> Actions:
        """What `user` ("": anonymous) may do in `repository`. `groups`: those that a token of his names."""
        rule = self._rule(repository)
        groups |= self.groups_of(user)
        granted = rule.to(user, groups) if rule else NONE
        if user:
            granted |= self.admins.to(user, groups)
        if granted <= READ or (rule and rule.over_mirrored) or not self.is_mirrored(repository):
            return granted
        return granted & READ

    def is_mirrored(self, repository: str) -> bool:
        """Whether the mirror writes it: a content rule puts something there."""
        return any(regex.fullmatch(f"{repository}/") for regex in self.mirrored)

    def groups_of(self, user: str) -> frozenset[str]:
        return (
            frozenset(name for name, users in self.groups.items() if user in users) if user else frozenset()
        )

    def is_admin(self, user: str, groups: frozenset[str] = frozenset()) -> bool:
        return bool(user and self.admins.to(user, groups | self.groups_of(user)))

    @property
    def has_anonymous(self) -> bool:
        """Whether who does not sign in may do anything at all."""
        return any(rule.anonymous for rule in self.rules)

    @property
    def allows_writing(self) -> bool:
        """Whether anybody may write anywhere."""
        granted = [self.admins.actions]
        for rule in self.rules:
            granted += [rule.signed_in, rule.anonymous, *(grant.actions for grant in rule.grants)]
        return any(actions - READ for actions in granted)

    def _rule(self, repository: str) -> RepositoryRule | None:
        name = f"{repository}/"
        found = (rule for rule in self.rules if rule.regex.fullmatch(name))
        return max(found, key=lambda rule: len(rule.pattern), default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "rules": [rule.to_json() for rule in self.rules],
            "admins": self.admins.to_json(),
            "groups": {name: sorted(users) for name, users in self.groups.items()},
            "observers": sorted(self.observers),
            "mirrored": [regex.pattern for regex in self.mirrored],
            "openMetrics": self.open_metrics,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        return cls(
            tuple(map(RepositoryRule.from_json, found["rules"])),
            Grant.from_json(found["admins"]),
            {name: frozenset(users) for name, users in found["groups"].items()},
            frozenset(found["observers"]),
            tuple(map(re.compile, found["mirrored"])),
            found["openMetrics"],
        )


def actions_of(found: Iterable[str]) -> Actions:
    """The actions with these names; others are none."""
    return frozenset(action for action in get_args(Action) if action in found)
