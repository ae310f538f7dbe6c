"""What an operator changes by a command, in the audit log (docs/audit.md)."""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from registry_server.oci.digest import Digest
from registry_server.oci.reference import ImageName, Tag
from tasks.run.audit import Audit, audit_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiles.model.profile import Profile
    from registry_server.bundles.state import AppliedBundle
    from registry_server.store.mirror_state.tag_switch import Change
    from registry_server.store.store import Store


def operator_name() -> str:
    """Who does this: `account@host`. Of the process, and not of LOGNAME, which anybody may set.

    A container may run under a number that has no name.
    """
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class OperatorAudit:
    """Opened before anything is changed. Each method is called when a change is done."""

    audit: Audit
    user: str

    @classmethod
    def of(cls, profile: Profile) -> Self:
        """Raises `AuditUnusable`."""
        return cls(audit_of(profile.log.audit, by="command", registry=""), operator_name())

    def switched(self, change: Change) -> None:
        """A promotion, or its way back, has changed tags here or in another registry."""
        event = "rollback" if change.undoes else "promote"
        for text, each in change.tags.items():
            digest = str(each.after.digest) if each.after else ""
            self.audit.commanded(
                event, ImageName.parse(text), self.user,
                digest=digest, verdict=each.verdict, destination=change.destination, change=change.id,
            )  # fmt: skip

    def removed(self, names: Iterable[ImageName]) -> None:
        for name in names:
            self.audit.commanded("delete", name, self.user)

    def pruned(self, names: Iterable[ImageName], registry: str) -> None:
        """`registry`: the registry entry whose upstream has deleted the tags."""
        for name in names:
            self.audit.commanded("prune", name, self.user, registry=registry)

    def brought(self, event: str, store: Store, names: Iterable[ImageName]) -> None:
        """`event`: `restore` or `import`. The digests are what the store has under the names."""
        for name in names:
            self.audit.commanded(event, name, self.user, digest=_digest(store, name))

    def applied(self, bundle: AppliedBundle) -> None:
        for text, digest in bundle.applied.items():
            verdict = bundle.verdicts.get(text, "")
            self.audit.commanded("apply", ImageName.parse(text), self.user, digest=digest, verdict=verdict)
        for each in bundle.refused:
            self.audit.commanded(
                "apply", ImageName.parse(each.image), self.user,
                outcome="refused", digest=str(each.digest), reason=each.reason,
            )  # fmt: skip


def _digest(store: Store, name: ImageName) -> str:
    if isinstance(name.reference, Digest):
        return str(name.reference)
    assert isinstance(name.reference, Tag), "it is one of both"
    record = store.repository(name.repository).tag(name.reference)
    return str(record.digest) if record else ""
