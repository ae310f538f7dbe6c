"""What a Helm repository was found to have, kept beside the store: a poll then asks for the index alone.

Files that may be lost: what they say is found out again. Several processes write at once, each a whole file.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.whole_file import write_whole
from tasks.upstream.helm.chart import ARCHIVE, PackagedChart
from tasks.upstream.helm.index import HelmIndex

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

_INDEX = "index.json"
_KEY = re.compile(r"[0-9a-f]{64}\.json")
_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, InvalidName)


@dataclass(frozen=True, slots=True)
class KnownIndex:
    """`etag` is what the server called this state of it, `place` where it was."""

    place: str
    etag: str
    index: HelmIndex


class HelmRecords:
    """Those of one repository, in a folder of their own; None: nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def index(self) -> KnownIndex | None:
        try:
            found = self._read(_INDEX)
            return KnownIndex(found["place"], found["etag"], HelmIndex.from_json(found["index"]))
        except _BROKEN:
            return None

    def keep_index(self, known: KnownIndex) -> None:
        """And forget charts that the index does not have any more."""
        document = {"place": known.place, "etag": known.etag, "index": known.index.to_json()}
        self._write(_INDEX, document)
        self._forget_all_but(
            {f"{each.key}.json" for found in known.index.charts.values() for each in found.values()}
        )

    def chart(self, key: str) -> PackagedChart | None:
        try:
            found = self._read(f"{key}.json")
            provenance = found["provenance"]
            archive = Descriptor(ARCHIVE, Digest(found["archive"]), int(found["size"]))
            return PackagedChart(
                found["manifest"].encode(),
                found["config"].encode(),
                archive,
                None if provenance is None else provenance.encode("latin-1"),
            )
        except _BROKEN:
            return None

    def keep_chart(self, key: str, chart: PackagedChart) -> None:
        document = {
            "manifest": chart.manifest.decode(),
            "config": chart.config.decode(),
            "archive": chart.archive.digest,
            "size": chart.archive.size,
            "provenance": None if chart.provenance is None else chart.provenance.decode("latin-1"),
        }
        self._write(f"{key}.json", document)

    def _read(self, name: str) -> Any:
        if self._folder is None:
            raise LookupError
        return json.loads((self._folder / name).read_bytes())

    def _write(self, name: str, document: Any) -> None:
        """A disk that is full, or read-only, costs requests and nothing else."""
        if self._folder is None:
            return
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / name, json.dumps(document).encode())

    def _forget_all_but(self, kept: Container[str]) -> None:
        if self._folder is None:
            return
        with suppress(OSError):
            for path in self._folder.iterdir():
                if _KEY.fullmatch(path.name) and path.name not in kept:
                    path.unlink(missing_ok=True)
