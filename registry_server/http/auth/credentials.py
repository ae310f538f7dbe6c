"""What a client shows (RFC 7235, RFC 7617, RFC 6750), and what it is asked for. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterable

# A header longer than this is no credential of ours, and not worth decoding.
_LONGEST = 16 * 1024
_HOST = re.compile(r"[A-Za-z0-9_.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", re.ASCII)


class CredentialsMalformed(MirrorflowError):
    """An Authorization header that cannot be read, or more than one of them."""


@dataclass(frozen=True, slots=True)
class Password:
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Password(user={self.user!r})"


@dataclass(frozen=True, slots=True)
class Token:
    text: str

    def __repr__(self) -> str:
        return "Token()"


@dataclass(frozen=True, slots=True)
class Anonymous:
    """`explicit`: an empty Basic header, by which containers/image says that it has no user."""

    explicit: bool = False


Credentials = Password | Token | Anonymous


def read_credentials(headers: Iterable[tuple[bytes, bytes]]) -> Credentials:
    """From the headers of a request. Raises `CredentialsMalformed`."""
    found = [value for name, value in headers if name.lower() == b"authorization"]
    if not found:
        return Anonymous()
    if len(found) > 1 or len(found[0]) > _LONGEST:
        raise CredentialsMalformed("more than one Authorization header, or one of excessive length")
    scheme, _, value = found[0].strip().partition(b" ")
    match scheme.lower():
        case b"basic":
            return _basic(value.strip())
        case b"bearer":
            return Token(value.strip().decode("latin-1"))
    raise CredentialsMalformed("an Authorization header with a scheme other than Basic or Bearer")


def _basic(value: bytes) -> Credentials:
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise CredentialsMalformed("a Basic header that is not base64 of UTF-8") from None
    user, colon, password = text.partition(":")
    if not colon:
        raise CredentialsMalformed("a Basic header without a colon")
    return Password(user, password) if user or password else Anonymous(explicit=True)


def basic_challenge() -> str:
    return 'Basic realm="mirrorflow", charset="UTF-8"'


def bearer_challenge(realm: str, service: str, *, scope: str = "", error: str = "") -> str:
    """What tells a client where to get a token, and for what (RFC 6750, section 3)."""
    named = {"realm": realm, "service": service, "scope": scope, "error": error}
    return "Bearer " + ",".join(f'{name}="{_quoted(value)}"' for name, value in named.items() if value)


def origin(scheme: str, host: str | None, otherwise: str) -> str:
    """`https://registry.example:5000` as the client called us; a Host that is none is not repeated."""
    return f"{scheme}://{host if host and _HOST.fullmatch(host) else otherwise}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
