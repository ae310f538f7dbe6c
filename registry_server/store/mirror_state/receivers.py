"""Which receivers of misses there are: each writes a record, and writes it anew for as long as it runs.

A record has no time that another host would compare with its own clock. Whoever reads looks whether `beat` is
another one than a while ago.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from registry_server.store import records
from registry_server.store.errors import translated
from registry_server.store.filesystem.process_identity import ProcessIdentity

if TYPE_CHECKING:
    from registry_server.store.objects.objects import Objects

RENEWED_EVERY: Final = 5.0
"""Seconds between two writes of a record."""
LOST_AFTER: Final = 20.0
"""Seconds without a new `beat` after which a receiver counts as gone."""
_FOLDER: Final = "receivers"
_NAME: Final = re.compile(r"[0-9a-f]{32}\.json")
_URL: Final = re.compile(r"https?://[^\s/@]+/[^\s]*", re.ASCII)


class ReceiverRecords:
    """`receivers/<hash of the url>.json` in the main root: a receiver that starts again has the same one."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @translated
    def renew(self, url: str) -> None:
        """Say that the receiver at `url` runs, in this process."""
        document = {"url": url, "beat": secrets.token_hex(8), **ProcessIdentity.current().to_json()}
        self._objects.put(_key(url), records.encode(document))

    @translated
    def remove(self, url: str) -> None:
        """It has ended, or is gone. Does nothing when there is no such record."""
        self._objects.remove(_key(url))

    @translated
    def beats(self) -> dict[str, str]:
        """The `beat` of each receiver by its url. What is no record is left out."""
        found = {}
        for name, content in self._objects.contents(_FOLDER):
            record = records.decoded(content, _record) if _NAME.fullmatch(name) else None
            if record is not None and _file_name(record[0]) == name:
                found[record[0]] = record[1]
        return found


def _key(url: str) -> str:
    return f"{_FOLDER}/{_file_name(url)}"


def _file_name(url: str) -> str:
    return f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"


def _record(body: Any) -> tuple[str, str]:
    """Raises LookupError, TypeError or ValueError."""
    url = str(body["url"])
    if not _URL.fullmatch(url):
        raise ValueError(url)
    return url, str(body["beat"])
