"""Trusted identities: `x509.subject: C=US, ST=WA, O=acme` (trust-policy, "Trusted Identities")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, slots=True)
class Identities:
    """Subjects that may sign, as pairs (object identifier, value).

    None: any certificate that the trust store vouches for (`*`).
    """

    subjects: tuple[frozenset[tuple[str, str]], ...] | None = None

    def __str__(self) -> str:
        """For a reason, by object identifiers: `2.5.4.6=US,2.5.4.10=acme`."""
        wanted = (",".join(f"{oid}={value}" for oid, value in sorted(each)) for each in self.subjects or ())
        return " or ".join(wanted) or "*"

    def take(self, subject: x509.Name) -> bool:
        """Whether all that one of the identities names stands in `subject`."""
        if self.subjects is None:
            return True
        found = {(attribute.oid.dotted_string, attribute.value) for attribute in subject}
        return any(wanted <= found for wanted in self.subjects)
