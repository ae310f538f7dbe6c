"""What is needed to accept the tokens of another issuer; plain data, as JSON for child processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class IssuerOptions:
    """`authority` is a CA in PEM, `authority_file` the path of one; "" for those of the system.

    The rest are CEL expressions: `variables` are pairs of name and expression, `validations` of expression
    and message. `groups` is "" where tokens say nothing of groups.
    """

    issuer: str
    audiences: tuple[str, ...]
    username: str = "claims.iss + '/' + claims.sub"
    groups: str = ""
    variables: _Pairs = ()
    validations: _Pairs = ()
    authority: str = ""
    authority_file: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        return cls(
            found["issuer"],
            tuple(found["audiences"]),
            found["username"],
            found["groups"],
            tuple((name, expression) for name, expression in found["variables"]),
            tuple((expression, message) for expression, message in found["validations"]),
            found["authority"],
            found["authority_file"],
        )
