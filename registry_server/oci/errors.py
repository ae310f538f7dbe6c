"""The errors of the ground floor, and the root of everything that can go wrong here.

MirrorflowError                 an operator can act on it: the edges (CLI, HTTP, flow) catch this
├── InvalidName                 a repository name, tag, digest or reference that breaks the grammar
├── ContentError                bytes are not what somebody promised
│   ├── DigestMismatch
│   ├── SizeMismatch
│   └── ManifestInvalid         not a manifest, or an ambiguous one
├── NotFound                    BLOB_UNKNOWN, MANIFEST_UNKNOWN, NAME_UNKNOWN
├── StoreError                  registry_server/store/errors.py
├── ProfileError                profiles/errors.py
└── UpstreamError               tasks/upstream/errors.py

An error is defined beside the code that raises it; this file holds what several rooms share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest


class MirrorflowError(Exception):
    """Base class. `retryable` says whether doing the same thing again may end differently.

    Picklable whatever the constructor of a subclass takes: errors go from process to process with the values
    of the steps. What is in `args` and in attributes has to be picklable.
    """

    retryable: ClassVar[bool] = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args, self.__dict__)


def _remade(kind: type[MirrorflowError], args: tuple[Any, ...], state: dict[str, Any]) -> MirrorflowError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidName(MirrorflowError, ValueError):
    """Text that breaks the grammar of distribution-spec; `code` is the OCI error code it becomes."""

    def __init__(self, message: str, *, code: str = "NAME_INVALID") -> None:
        super().__init__(message)
        self.code = code


class ContentError(MirrorflowError):
    """The bytes are not what their descriptor promised.

    Not retryable: who sends wrong bytes once sends them again. A body that was cut short is a broken
    connection, which the upstream's client reports as such.
    """


class DigestMismatch(ContentError):
    def __init__(self, *, expected: Digest, actual: Digest) -> None:
        super().__init__(f"expected content with digest {expected}, got {actual}")
        self.expected = expected
        self.actual = actual


class SizeMismatch(ContentError):
    def __init__(self, *, expected: int, actual: int, at_least: bool = False) -> None:
        more = "at least " if at_least else ""
        super().__init__(f"expected {expected} bytes, got {more}{actual}")
        self.expected = expected
        self.actual = actual


class ManifestInvalid(ContentError):
    """Not a manifest (image-spec), or one that two readers would understand differently."""


class NotFound(MirrorflowError, LookupError):
    """Not in the store; `code` is the OCI error code."""

    code: ClassVar[str] = "UNKNOWN"


class BlobUnknown(NotFound):
    code = "BLOB_UNKNOWN"


class ManifestUnknown(NotFound):
    code = "MANIFEST_UNKNOWN"


class RepositoryUnknown(NotFound):
    code = "NAME_UNKNOWN"
