"""What the mirror itself decides and changes, for the audit log (docs/audit.md): JSON lines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from registry_server.append_log import AppendLog
from tasks.run.errors import AuditUnusable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import ImageName
    from tasks.run.values import Admission, Image


@dataclass(frozen=True, slots=True)
class Audit:
    """`by` says what acts: sync, onDemand, policyChange, command. Without `lines` it does nothing."""

    lines: AppendLog | None = None
    by: str = ""
    registry: str = ""

    def admitted(self, image: Image, admission: Admission) -> None:
        """A policy let the image in, or said that it lacks something and let it in all the same."""
        self._decided(image, "admitted", admission, "")

    def refused(self, image: Image, admission: Admission | None, reason: str) -> None:
        """A policy, or `onlySigned`, keeps the image out."""
        self._decided(image, "refused", admission, reason)

    def _decided(self, image: Image, outcome: str, admission: Admission | None, reason: str) -> None:
        self._write(
            "verdict",
            outcome,
            image.name,
            upstream=image.upstream_name,
            digest=str(image.digest),
            verdict=admission.verdict if admission else "",
            signers=[str(each.get("who", "")) for each in admission.signed_by] if admission else [],
            policy=admission.judged_by if admission else "",
            reason=reason,
        )

    def judged(self, name: ImageName, digest: Digest, verdict: str, *, policy: str, stays: bool) -> None:
        """A changed policy looked at what is stored, and hides it or leaves it. `policy`: its fingerprint."""
        outcome = "admitted" if stays else "refused"
        self._write("verdict", outcome, name, digest=str(digest), verdict=verdict, policy=policy)

    def published(self, image: Image, digest: Digest) -> None:
        """The tag names this digest now."""
        self._write("publish", "done", image.name, upstream=image.upstream_name, digest=str(digest))

    def removed(self, names: Iterable[ImageName]) -> None:
        """The upstream deleted these tags, and the rule wants that followed."""
        for name in names:
            self._write("prune", "done", name)

    def commanded(
        self, event: str, name: ImageName, user: str, *, outcome: str = "done", **more: str
    ) -> None:
        """An operator did it by a command of mirrorflow. `user`: the account of the process, and its host."""
        self._write(event, outcome, name, user=user, **more)

    def _write(self, event: str, outcome: str, name: ImageName, **more: Any) -> None:
        if self.lines is None:
            return
        now = datetime.fromtimestamp(time.time(), UTC)
        fields = {
            "time": now.isoformat(timespec="milliseconds"),
            "by": self.by,
            "event": event,
            "outcome": outcome,
            "registry": self.registry,
            "repository": str(name.repository),
            "reference": str(name.reference),
            **more,
        }
        self.lines.write({key: value for key, value in fields.items() if value not in ("", [])})


NO_AUDIT: Final = Audit()


def audit_of(path: Path | None, *, by: str, registry: str) -> Audit:
    """Raises `AuditUnusable`: nothing is done that could not be written down."""
    if path is None:
        return NO_AUDIT
    try:
        return Audit(_lines(path), by, registry)
    except OSError as error:
        raise AuditUnusable(f"cannot write log.audit {path}: {error.strerror}; make it writable") from error


@cache
def _lines(path: Path) -> AppendLog:
    """One for all registry entries of the process."""
    return AppendLog(path)
