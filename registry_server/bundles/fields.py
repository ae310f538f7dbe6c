"""Single values of documents that come from the other side of a gap."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from registry_server.bundles.errors import BundleInvalid
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.oci.strict_json import shown

_LONGEST: Final = 4096
_MAX_SIZE: Final = 2**63 - 1


def expect(found: Any, kind: type[Any], where: str) -> Any:
    """`found`, if it is a `kind`. Raises `BundleInvalid`."""
    if not isinstance(found, kind) or isinstance(found, bool):
        raise BundleInvalid(f"{where} is {shown(found)}; expected {_WORDS[kind]}")
    return found


_WORDS: Final = {dict: "an object", list: "a list", str: "text", int: "a number"}


def text(found: Any, where: str) -> str:
    """One line that may be printed. Raises `BundleInvalid`."""
    said: str = expect(found, str, where)
    if len(said) > _LONGEST or not said.isprintable():
        raise BundleInvalid(f"{where} is {shown(said)}; expected one line of at most {_LONGEST} characters")
    return said


def digest(found: Any, where: str) -> Digest:
    """Raises `BundleInvalid`."""
    try:
        return Digest(text(found, where))
    except InvalidName as error:
        raise BundleInvalid(f"{where}: {error}") from error


def size_of(found: Any, where: str) -> int:
    """A number of bytes. Raises `BundleInvalid`."""
    size: int = expect(found, int, where)
    if not 0 <= size <= _MAX_SIZE:
        raise BundleInvalid(f"{where} is {shown(size)}; expected a number of bytes")
    return size


def moment(found: Any, where: str) -> str:
    """A time in UTC as mirrorflow writes it, so that texts can be compared. Raises `BundleInvalid`."""
    said = text(found, where)
    try:
        when = datetime.fromisoformat(said)
    except ValueError as error:
        raise BundleInvalid(f"{where} is {shown(said)}; expected a time") from error
    if when.utcoffset() != timedelta(0) or said != written(when):
        raise BundleInvalid(
            f"{where} is {shown(said)}; expected one such as 2026-01-02T03:04:05.000006+00:00"
        )
    return said


def written(when: datetime) -> str:
    """A time in UTC, to the microsecond: later times are greater texts."""
    return when.isoformat(timespec="microseconds")
