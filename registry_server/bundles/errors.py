"""What can be wrong with a bundle, or with what is told about a store.

BundleError              (MirrorflowError)
├── BundleInvalid        it is not what its format says, or not what it says of itself
├── BundleTooNew         written in a later format
├── BundleIncomplete     a file of it is missing or too short: copy it again
├── BundleDamaged        bytes of it have changed
├── WrongBase            made for what another store holds, or for what this one held at another time
└── BundleUnwritable     it cannot be made here
"""

from __future__ import annotations

from registry_server.oci.errors import MirrorflowError


class BundleError(MirrorflowError):
    """The bundle cannot be used; the store is as it was."""


class BundleInvalid(BundleError):
    """Not what its format says, or not what it says of itself."""


class BundleTooNew(BundleError):
    """Written in a later format."""


class BundleIncomplete(BundleError):
    """A file of it is missing or has another size."""


class BundleDamaged(BundleError):
    """Bytes of it have changed."""


class WrongBase(BundleError):
    """Made for what another store holds, or for what this one held at another time."""


class BundleUnwritable(BundleError):
    """A bundle cannot be made here."""
