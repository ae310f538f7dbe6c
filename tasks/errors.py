"""What can go wrong in the steps themselves, beside what the upstream and the store raise.

MirrorflowError
├── StepFailed       some members of a group failed; retryable if any of them is
├── BlobNotCopied    an image cannot be published, because one of its blobs did not arrive
├── NotWanted        `only` names an image that no content rule takes
├── NotYet           the profile asks for something that this version cannot do
└── Unexpected       a bug, named with the image that it hit, so that the neighbours go on
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.oci.descriptor import Descriptor

_SHOWN = 3


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


class BlobNotCopied(MirrorflowError):
    def __init__(self, blob: Descriptor, cause: MirrorflowError | None) -> None:
        why = f": {cause}" if cause else ""
        super().__init__(f"the blob {blob.digest.short} ({blob.size:,} bytes) is not here{why}")


class NotWanted(MirrorflowError):
    """Asked for by name, but taken by no content rule."""


class NotYet(MirrorflowError):
    """A setting that loads, so that a zot profile can be read, but that this version cannot honour."""


class Unexpected(MirrorflowError):
    """Wraps what should not happen, so that one image's bug stays that image's."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"unexpected {type(error).__name__}: {error} (a bug in mirrorflow; please report it)"
        )


def is_retryable(error: BaseException) -> bool:
    """Whether doing the same again may end differently: never for a wrong digest that was refused for good or
    a 403, and never for a bug."""
    if isinstance(error, StepFailed):
        return error.worth_retrying
    return isinstance(error, MirrorflowError) and error.retryable
