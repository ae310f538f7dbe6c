"""The keys that sign tokens: a file that all servers of a registry share, read again when it changes.

The first key of the file signs, and each one is good to verify with: so a key is replaced without a moment in
which a server refuses the tokens of another one. The store's own file is made on first use, with mode 0600. A
file that the profile names is not made: a second host would make one of its own, and refuse the first one's
tokens.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from registry_server.http.auth.access_options import AccessUnusable
from registry_server.http.auth.htpasswd import file_identity

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("registry_server.access")
_LARGEST: Final = 64 * 1024  # bytes
_MOST_KEYS: Final = 8  # a forged token costs a check with each
_PEM: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----.*?-----END [A-Z0-9 ]+-----", re.DOTALL)
_MAKE: Final = "make one with: openssl genpkey -algorithm ed25519"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """`private` signs; a token of any of `public` is ours."""

    private: Ed25519PrivateKey
    public: tuple[Ed25519PublicKey, ...] = field(default=())

    @classmethod
    def of(cls, *keys: Ed25519PrivateKey) -> KeyRing:
        return cls(keys[0], tuple(key.public_key() for key in keys))


class KeyFile:
    """The keys in the file `path`. Raises `AccessUnusable` when it cannot be used at the start.

    `create`: make it when it is not there, for its owner alone; else a group may read it as well, because a
    Secret that Kubernetes mounts for a user that is not root has a group. A file that is broken or gone later
    on changes nothing, and the log says so: the keys that were read last remain in use.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self._path, self._forbidden = path, 0o077 if create else 0o037
        self._seen = file_identity(path)
        if create and self._seen is None:
            _make_first(path)
            self._seen = file_identity(path)
        self._ring = self._read()

    def current(self) -> KeyRing:
        """As the file is now; costs one stat."""
        now = file_identity(self._path)
        if now != self._seen:
            self._seen = now  # also when it is broken: said once, and looked at again when it changes
            try:
                self._ring = self._read()
            except AccessUnusable as error:
                _log.error("%s; the token keys that were read before remain in use", error)
        return self._ring

    def _read(self) -> KeyRing:
        """Raises `AccessUnusable`."""
        path = self._path
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                content = file.read(_LARGEST)
        except FileNotFoundError as error:
            raise AccessUnusable(f"there is no token key {path}; {_MAKE} -out {path}") from error
        except OSError as error:
            raise AccessUnusable(f"cannot read the token key {path}: {error.strerror}") from error
        if mode & self._forbidden:
            raise AccessUnusable(
                f"other users can read the token key {path}, and could sign in as any user with it: "
                f"put another one in its place ({_MAKE}), with chmod 600"
            )
        return _parse(content, path)


def _parse(content: bytes, path: Path) -> KeyRing:
    """Raises `AccessUnusable`."""
    blocks = _PEM.findall(content)
    if not blocks:
        raise AccessUnusable(f"the token key {path} is not a PEM key without a password; {_MAKE}")
    if len(blocks) > _MOST_KEYS:
        raise AccessUnusable(f"the token key {path} holds more than {_MOST_KEYS} keys; remove old ones")
    return KeyRing.of(*(_key(block, path) for block in blocks))


def _key(pem: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AccessUnusable(f"the token key {path} is not a PEM key without a password; {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AccessUnusable(f"the token key {path} is not an Ed25519 key; {_MAKE}")
    return key


def _make_first(path: Path) -> None:
    """Linked into place whole: of several servers that begin at once, one wins and all read the same."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    except OSError as error:
        raise AccessUnusable(f"cannot create the token key {path}: {error.strerror}") from error


def _make(path: Path) -> None:
    content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    staged = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(staged, path)
    except FileExistsError:
        pass  # another one was faster
    finally:
        staged.unlink()
