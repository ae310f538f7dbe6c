"""Warnings about receivers of notifications: files that are not there, and words that anybody can read."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from profiles.loading.key_names import KeyPath
    from profiles.model.notify import NotifyReceiver

_LOCAL = ("localhost", "127.0.0.1", "::1")


def check(receivers: Iterable[NotifyReceiver]) -> Iterator[tuple[KeyPath, str, str]]:
    """Path, what was found, what to write instead. The machine that runs the mirror may have the files."""
    for number, receiver in enumerate(receivers):
        for key, path in (("urlFile", receiver.url_file), ("secretFile", receiver.secret_file)):
            if path is not None and not path.is_file():
                found = f"there is no file {path} here: nothing can be sent without it"
                yield ("notify", number, key), found, "make it, or name another one"
        parts = urlsplit(receiver.url or "")
        if parts.scheme == "http" and "." in (parts.hostname or "") and parts.hostname not in _LOCAL:
            found = f"what is told to {parts.hostname} can be read and changed on its way"
            yield ("notify", number, "url"), found, "write https://, if the receiver has it"
