"""Trusted identities: `x509.subject: C=US, ST=WA, O=acme` (trust-policy, "Trusted Identities")."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from tasks.trust.errors import TrustBroken, in_short
from tasks.trust.notation.chain import subject_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = "x509.subject:"
_SPACE = re.compile(r"(?<!\\)([,+])\s+")
_REQUIRED = {NameOID.COUNTRY_NAME: "C", NameOID.STATE_OR_PROVINCE_NAME: "ST", NameOID.ORGANIZATION_NAME: "O"}


@dataclass(frozen=True, slots=True)
class Identities:
    """Subjects that may sign; None: any certificate that the trust store vouches for (`*`)."""

    subjects: tuple[frozenset[tuple[Any, Any]], ...] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Identities:
        """Raises `TrustBroken`."""
        texts = list(texts)
        if texts == ["*"]:
            return cls(None)
        if not texts or "*" in texts:
            raise TrustBroken("identities are either '*' alone, or a list of 'x509.subject: …'")
        return cls(_apart(tuple(frozenset(_subject(text)) for text in texts)))

    def take(self, subject: x509.Name) -> bool:
        """Whether all that one of the identities names stands in `subject`."""
        return self.subjects is None or any(wanted <= subject_pairs(subject) for wanted in self.subjects)


def _subject(text: str) -> set[tuple[Any, Any]]:
    if not text.startswith(_PREFIX):
        raise TrustBroken(f"{text!r} is no identity; write 'x509.subject: C=US, ST=WA, O=acme'")
    try:
        name = x509.Name.from_rfc4514_string(_SPACE.sub(r"\1", text.removeprefix(_PREFIX).strip()))
    except ValueError as error:
        raise TrustBroken(f"{text!r} is no distinguished name ({in_short(error)})") from error
    found = subject_pairs(name)
    oids = [oid for oid, _ in found]
    lacking = [short for oid, short in _REQUIRED.items() if oid not in oids]
    if lacking or len(oids) != len(list(name)) or len(set(oids)) != len(oids):
        needs = f"it lacks {', '.join(lacking)}" if lacking else "it names something twice"
        raise TrustBroken(f"{text!r} needs C, ST and O, each once: {needs}")
    return found


def _apart(subjects: tuple[frozenset[tuple[Any, Any]], ...]) -> tuple[frozenset[tuple[Any, Any]], ...]:
    for number, one in enumerate(subjects):
        if any(one <= other or other <= one for other in subjects[number + 1 :]):
            raise TrustBroken("one of the identities contains another: keep the one that is meant")
    return subjects
