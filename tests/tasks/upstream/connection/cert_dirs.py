"""Folders as `certDir` wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certificates import KeyPair


def cert_dir(folder: Path, ca: Path | None = None, client: KeyPair | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if ca is not None:
        (folder / "ca.crt").write_bytes(ca.read_bytes())
    if client is not None:
        (folder / "client.cert").write_bytes(client.cert.read_bytes())
        (folder / "client.key").write_bytes(client.key.read_bytes())
    return folder
