"""The result of an audit as an in-toto statement: what `audit --attest` signs. Pure.

The subjects are the digests that were verified. A digest that falls short under one of
its names is none, and neither is one that only has something signature-like.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.errors import MirrorflowError
from tasks.stored.audit import Result
from tasks.trust.verdict import VerdictOutcome

if TYPE_CHECKING:
    from datetime import datetime

    from registry_server.oci.digest import Digest
    from tasks.stored.audit import Audited

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://mirrorflow.example/audit/v1"


class NothingVerified(MirrorflowError):
    """A statement needs a subject."""


@dataclass(slots=True)
class AuditStatement:
    """Collects images. `profile` is the SHA-256 of the profile's file, in hex."""

    profile: str
    _images: list[dict[str, Any]] = field(default_factory=list)
    _verified: dict[Digest, str] = field(default_factory=dict)
    _short: set[Digest] = field(default_factory=set)
    _results: Counter[Result] = field(default_factory=Counter)

    def add(self, audited: Audited) -> None:
        digest = audited.image.upstream_digest
        self._results[audited.result] += 1
        if audited.result is Result.SHORT:
            self._short.add(digest)
        elif audited.verdict is not None and audited.verdict.outcome is VerdictOutcome.VERIFIED:
            self._verified.setdefault(digest, audited.image.name)
        self._images.append(
            {
                "image": audited.image.name,
                "digest": digest,
                "outcome": audited.outcome,
                "rule": audited.rule,
                "fingerprint": audited.image.policy,
            }
        )

    def encoded(self, when: datetime, not_judged: Counter[str]) -> bytes:
        """in-toto attestation framework, spec/v1/statement.md. Raises `NothingVerified`."""
        subjects = [
            {"name": name, "digest": {digest.algorithm: digest.hex}}
            for digest, name in self._verified.items()
            if digest not in self._short
        ]
        if not subjects:
            raise NothingVerified(
                "no statement was written: no image was verified, and it needs one at least"
            )
        document = {
            "_type": STATEMENT,
            "subject": subjects,
            "predicateType": PREDICATE,
            "predicate": {
                "profile": {"digest": {"sha256": self.profile}},
                "when": when.isoformat(timespec="seconds"),
                "summary": summary(self._results, not_judged),
                "images": self._images,
            },
        }
        return json.dumps(document, separators=(",", ":")).encode()


def summary(results: Counter[Result], not_judged: Counter[str]) -> dict[str, Any]:
    return {
        "passed": results[Result.PASSED],
        "fallsShort": results[Result.SHORT],
        "noPolicy": results[Result.NO_POLICY],
        "notJudged": dict(not_judged),
    }
