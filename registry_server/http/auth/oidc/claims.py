"""From the claims of a verified token to a user and groups, by expressions of the profile (CEL)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.http.auth.oidc.options import IssuerOptions

_LONGEST_NAME = 512  # characters of a user or group
_MOST_GROUPS = 500


class ExpressionInvalid(MirrorflowError):
    """An expression that is not CEL."""


class ClaimsRefused(MirrorflowError):
    """A token that is valid, and whose claims give no user here."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a token stands for."""

    user: str
    groups: frozenset[str] = frozenset()


def check_expression(text: str) -> None:
    """Raises `ExpressionInvalid`."""
    _compiled(text)


class ClaimMapper:
    """The expressions of one issuer, compiled once."""

    def __init__(self, options: IssuerOptions) -> None:
        """Raises `ExpressionInvalid`."""
        self._variables = [(name, _compiled(text)) for name, text in options.variables]
        self._validations = [(_compiled(text), message) for text, message in options.validations]
        self._username = _compiled(options.username)
        self._groups = _compiled(options.groups) if options.groups else None

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Raises `ClaimsRefused`."""
        known: dict[str, Any] = {"claims": dict(claims), "vars": {}}
        for name, program in self._variables:
            known["vars"][name] = _value(program, known, f"the variable {name}")
        for program, message in self._validations:
            if _value(program, known, message) is not True:
                raise ClaimsRefused(message)
        user = _name(_value(self._username, known, "the user"))
        if not user:
            raise ClaimsRefused("the claims of the token name no user")
        groups = () if self._groups is None else _value(self._groups, known, "the groups")
        if not isinstance(groups, list | tuple):
            raise ClaimsRefused("the claims of the token have no list of groups")
        return Person(user, frozenset(filter(None, map(_name, groups[:_MOST_GROUPS]))))


def _compiled(text: str) -> Any:
    import cel

    try:
        return cel.compile(text)
    except (ValueError, RuntimeError) as error:
        raise ExpressionInvalid(f"not a CEL expression: {' '.join(str(error).split())[:200]}") from error


def _value(program: Any, known: Mapping[str, Any], what: str) -> Any:
    """What is not there, or not of the type that an operation wants, is no value."""
    try:
        return program.execute(known)
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ClaimsRefused(f"the claims of the token do not give {what}") from error


def _name(value: Any) -> str:
    """ "" for what cannot be the name of a user or group."""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        return ""
    return value.strip()
