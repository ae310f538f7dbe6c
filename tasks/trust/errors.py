"""What can go wrong while signatures are judged.

TrustError                (MirrorflowError)
├── Refused               one signature does not count, and why: part of a verdict, never shown alone
└── TrustBroken           what the profile trusts cannot be loaded

An error of the source (network, registry) is none of these: it passes through `judge` untouched, because
"could not be asked" is not "unsigned".
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN = 160


class TrustError(MirrorflowError):
    """Base class of this package."""


class Refused(TrustError):
    """A signature does not count; the message says why."""


class TrustBroken(TrustError):
    """Keys, certificates or roots that cannot be used. Edit the profile."""


def in_short(error: BaseException) -> str:
    """One line of an exception for a reason; what others wrote is cut and loses its control characters."""
    if "validation error" in str(error):  # pydantic's list of fields, of a model that is the library's
        return "it does not have the form of its type"
    text = " ".join("".join(char if char.isprintable() else " " for char in str(error)).split())
    return (text if len(text) <= _SHOWN else text[:_SHOWN] + "…") or type(error).__name__


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Whatever a library throws at bytes from outside becomes `Refused("{what}: …")`.

    sigstore, cryptography, cbor2 and asn1crypto throw TypeError, KeyError, RecursionError and pyo3's
    PanicException (a BaseException) at odd input, beside their own errors (seen in tests).
    """
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"{what}: {in_short(error)}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3 does not export the class
            raise
        raise Refused(f"{what}: {in_short(error)}") from error
