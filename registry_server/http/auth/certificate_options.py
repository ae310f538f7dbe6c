"""What of a client certificate is the user. Beside what reads it, because profiles are read without
cryptography."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

Attribute = Literal["CommonName", "Subject", "Email", "URI", "DNSName"]
GroupAttribute = Literal["", "Organization", "OrganizationalUnit"]


@dataclass(frozen=True, slots=True)
class CertificateOptions:
    """zot's: `attributes` are tried in their order. `uri_pattern` has to match a URI as a whole; its first
    group is the user, "" takes the URI. Of several names of a kind the one with the index counts."""

    attributes: tuple[Attribute, ...] = ("CommonName",)
    uri_pattern: str = ""
    uri_index: int = 0
    dns_index: int = 0
    email_index: int = 0
    group_attribute: GroupAttribute = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        return cls(**{**found, "attributes": tuple(found["attributes"])})
