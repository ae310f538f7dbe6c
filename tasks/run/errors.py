"""What can go wrong in the steps themselves, beside what the upstream and the store raise.

MirrorflowError
├── StepFailed       some members of a group failed; retryable if any of them is
├── WrongContent     what an upstream sent is not what it promised; names the place (a `ContentError` too)
│   └── ReservedType it is of a type that only this mirror itself may write
├── TagMoved         a tag that moved after it was looked at, and what it named is gone (an `UpstreamError`)
├── LeftOut          not a failure: the image is left out, and the report says why
│   ├── NoPlatform   an index has none of the platforms that the rule wants
│   └── NotSigned    `onlySigned` leaves out what has no signature
├── NotAdmitted      a policy refuses the image
│   ├── StillNotAdmitted      it was refused a moment ago
│   └── CompanionNotAdmitted  of a companion, which has an outcome of its own (a `LeftOut` too)
├── BlobNotCopied    an image cannot be published, because one of its blobs did not arrive; retryable if
│                    publish_image itself was to fetch it, and the cause is
├── CompanionNotCopied  an image fails because what accompanies it does; retryable if the cause is
├── NotWanted        `only` names an image that no content rule takes
├── TagNotRead       the upstream does not tell what a tag names
├── AuditUnusable    the audit log cannot be opened, and nothing may happen without it
└── Unexpected       a bug, named with the image that it hit, so that the neighbours go on
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.errors import ContentError, MirrorflowError
from registry_server.store.errors import WaitCancelled
from tasks.upstream.errors import Stopped, UpstreamNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry_server.oci.descriptor import Descriptor, Platform
    from tasks.run.values import Admission, Image
    from tasks.upstream.errors import UpstreamSchema1, Where

_SHOWN = 3
SCHEMA1 = (
    "is in Docker's schema 1 format, whose digest does not cover its bytes: it cannot be verified or kept"
)


class StepFailed(MirrorflowError):
    """Names the members that failed; a retry repeats only those."""

    def __init__(self, failures: Mapping[str, MirrorflowError], *, of: int) -> None:
        shown = "; ".join(f"{name}: {error}" for name, error in list(failures.items())[:_SHOWN])
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        super().__init__(f"{len(failures)} of {of} failed: {shown}{more}" if of > 1 else shown)
        self.failures = dict(failures)

    @property
    def worth_retrying(self) -> bool:
        return any(is_retryable(error) for error in self.failures.values())


def only_error(failures: dict[str, MirrorflowError], *, of: int) -> MirrorflowError:
    """A single member's own error, or all of them in one."""
    if of == 1:
        return next(iter(failures.values()))
    return StepFailed(failures, of=of)


class WrongContent(ContentError):
    """Like every `ContentError` not worth a retry: who sends wrong bytes once sends them again."""

    def __init__(self, where: Where, reason: str) -> None:
        super().__init__(where, reason)

    def __str__(self) -> str:
        where, reason = self.args
        return f"{where}: {reason}"


class ReservedType(WrongContent):
    """An upstream has something of a type that only this mirror itself may write."""


class TagMoved(UpstreamNotFound):
    """A tag named something else when it was fetched than when it was looked at, and that is gone."""


class LeftOut(MirrorflowError):
    """Not a failure: the image is left out, and the report says why."""


class NoPlatform(LeftOut):
    """As long as its digest and the wishes stay."""

    def __init__(self, wanted: Sequence[Platform]) -> None:
        super().__init__(tuple(wanted))

    def __str__(self) -> str:
        return f"has none of the wanted platforms: {', '.join(map(str, self.args[0]))}"


class NotAdmitted(MirrorflowError):
    """The policy refuses the image; nothing of it becomes visible. Trying again does not help.

    `admission`: what verification said of it, where it was asked.
    """

    def __init__(self, message: str, admission: Admission | None = None) -> None:
        super().__init__(message, admission)

    @property
    def admission(self) -> Admission | None:
        found: Admission | None = self.args[1]
        return found

    def __str__(self) -> str:
        return str(self.args[0])


class StillNotAdmitted(NotAdmitted):
    """It was refused a moment ago, and was not judged again."""


class NotSigned(LeftOut):
    """`onlySigned: true` leaves out what has no signature: a choice of images, like a filter of tags."""

    def __init__(self, message: str, admission: Admission) -> None:
        super().__init__(message, admission)

    @property
    def admission(self) -> Admission:
        found: Admission = self.args[1]
        return found

    def __str__(self) -> str:
        return str(self.args[0])


class CompanionNotAdmitted(NotAdmitted, LeftOut):
    """A companion stays out; the image that it accompanies has an outcome of its own."""


class BlobNotCopied(MirrorflowError):
    """Retryable as its cause is, unless copy_blob, which it waited for, has been tried again already."""

    def __init__(self, blob: Descriptor, cause: MirrorflowError | None, *, final: bool = True) -> None:
        super().__init__(blob, cause)
        self.final = final

    @property
    def worth_retrying(self) -> bool:
        cause = self.args[1]
        return not self.final and cause is not None and is_retryable(cause)

    def __str__(self) -> str:
        blob, cause = self.args
        why = f": {cause}" if cause else ""
        return f"the blob {blob.digest.short} ({blob.size:,} bytes) is not here{why}"


class CompanionNotCopied(MirrorflowError):
    """A companion (a signature, an SBOM, …) does not arrive, and the rule does not take its image without."""

    def __init__(self, companion: str, cause: MirrorflowError) -> None:
        super().__init__(companion, cause)

    @property
    def worth_retrying(self) -> bool:
        return is_retryable(self.args[1])

    def __str__(self) -> str:
        companion, cause = self.args
        return f"its companion {companion} cannot be copied: {cause}"


class NotWanted(MirrorflowError):
    """Asked for by name, but taken by no content rule."""


class AuditUnusable(MirrorflowError):
    """The profile wants an audit log where none can be written."""


class TagNotRead(MirrorflowError):
    """The upstream did not tell what a tag names, and asking again would not change that."""


class Unexpected(MirrorflowError):
    """Wraps what should not happen, so that one image's bug stays that image's."""

    def __init__(self, error: BaseException) -> None:
        # In words, because not every error can go to another process.
        super().__init__(
            f"unexpected {type(error).__name__}: {error} (a bug in mirrorflow; please report it)"
        )


def is_retryable(error: BaseException) -> bool:
    """Whether doing the same again may end differently: never for a wrong digest that was refused for good or
    a 403, and never for a bug."""
    if isinstance(error, StepFailed | CompanionNotCopied | BlobNotCopied):
        return error.worth_retrying
    return isinstance(error, MirrorflowError) and error.retryable


def is_stop(error: BaseException) -> bool:
    """Whether it only says that the run was asked to end, which is nobody's failure.

    Of several errors, and of one with a cause: whether all of it does.
    """
    if isinstance(error, StepFailed):
        return all(is_stop(each) for each in error.failures.values())
    if isinstance(error, BlobNotCopied | CompanionNotCopied):
        cause = error.args[1]
        return cause is not None and is_stop(cause)
    return isinstance(error, (Stopped, WaitCancelled))


def schema1_reason(image: Image, error: UpstreamSchema1) -> str:
    """Why an image is left out: it, or a manifest that its index lists, is in this format."""
    own = error.reference in (image.digest, image.reference)
    return SCHEMA1 if own else f"lists {error.reference}, which {SCHEMA1}"
