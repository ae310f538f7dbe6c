"""The key that signs tokens: a file of mode 0600, made on first use, shared by all workers."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from registry_server.http.auth.access_options import AccessUnusable

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST = 64 * 1024


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key in the file `path`, which is made when it is not there. Raises `AccessUnusable`."""
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AccessUnusable(f"cannot read the token key {path}: {error.strerror}") from error
    try:
        _make(path)
        return _read(path)
    except OSError as error:
        raise AccessUnusable(f"cannot create the token key {path}: {error.strerror}") from error


def _read(path: Path) -> Ed25519PrivateKey:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise AccessUnusable(
                f"other users can read the token key {path}, and could sign in as any user with it: "
                "remove it (a new one is created), or chmod 600"
            )
        content = file.read(_LARGEST)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AccessUnusable(f"the token key {path} is not a PEM key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AccessUnusable(
            f"the token key {path} is not an Ed25519 key; remove it, and a new one is created"
        )
    return key


def _make(path: Path) -> None:
    """Linked into place whole: of several workers that begin at once, one wins and all read the same."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
