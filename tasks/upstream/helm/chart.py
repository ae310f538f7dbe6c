"""A chart as an OCI artifact: what `helm push` makes of an archive, but always the same bytes.

Helm's HIP 6: a manifest whose config is Chart.yaml as JSON, and whose layers are the archive as it is and its
provenance file. Helm writes the time of the push into the manifest; here there is none, so that the same
archive has the same digest at each poll.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from tasks.upstream.helm.plain_yaml import PlainYamlInvalid, load_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONFIG = "application/vnd.cncf.helm.config.v1+json"
ARCHIVE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
PROVENANCE = "application/vnd.cncf.helm.chart.provenance.v1.prov"
MAX_ARCHIVE = 32 * 1024 * 1024  # bytes; helm refuses charts of more than 100 MiB unpacked
_MAX_UNPACKED = 100 * 1024 * 1024  # bytes that are looked at
_MAX_METADATA = 1024 * 1024  # bytes of Chart.yaml
_MOST_MEMBERS = 10_000
_MOST_ENDS = 16  # times that an archive is read at its end; a good one is so once or twice
_TEXTS = (
    *("name", "home", "version", "description", "icon", "apiVersion", "condition", "tags", "appVersion"),
    *("kubeVersion", "type"),
)
_DEPENDENCY_TEXTS = ("name", "version", "repository", "condition", "alias")


class ChartInvalid(MirrorflowError):
    """An archive that is no chart, or another one than the index says."""


@dataclass(frozen=True, slots=True)
class PackagedChart:
    """What a chart is in a registry, but for the archive itself, of which `archive` tells the digest."""

    manifest: bytes
    config: bytes
    archive: Descriptor
    provenance: bytes | None = None

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)

    def small_blobs(self) -> dict[Digest, bytes]:
        """Config and provenance."""
        return {Digest.of(each): each for each in (self.config, self.provenance) if each is not None}


def package(archive: bytes, name: str, version: str, provenance: bytes | None) -> PackagedChart:
    """Raises `ChartInvalid`."""
    metadata = read_metadata(archive)
    if (metadata.get("name"), metadata.get("version")) != (name, version):
        raise ChartInvalid(
            f"its Chart.yaml is of {metadata.get('name')!r:.80} {metadata.get('version')!r:.80}, "
            f"and the index says {name!r} {version!r}"
        )
    config = _json(metadata)
    layers = [Descriptor(ARCHIVE, Digest.of(archive), len(archive))]
    if provenance is not None:
        layers.append(Descriptor(PROVENANCE, Digest.of(provenance), len(provenance)))
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": Descriptor(CONFIG, Digest.of(config), len(config)).to_json(),
        "layers": [each.to_json() for each in layers],
        "annotations": _annotations(metadata),
    }
    return PackagedChart(_json(document), config, layers[0], provenance)


def read_metadata(archive: bytes) -> dict[str, Any]:
    """Chart.yaml with the keys that helm knows, as its JSON. Raises `ChartInvalid`."""
    try:
        found = load_plain(_chart_yaml(archive))
    except PlainYamlInvalid as error:
        raise ChartInvalid(f"its Chart.yaml: {error}") from error
    if not isinstance(found, dict):
        raise ChartInvalid("its Chart.yaml is not a mapping")
    return _known(found)


def _chart_yaml(archive: bytes) -> bytes:
    """Of the folder that the archive consists of, not of the charts in it."""
    try:
        with (
            gzip.GzipFile(fileobj=io.BytesIO(archive)) as unpacked,
            tarfile.open(fileobj=_Limited(unpacked), mode="r|") as members,
        ):
            for number, member in enumerate(members):
                if number >= _MOST_MEMBERS:
                    break
                parts = member.name.removeprefix("./").split("/")
                if len(parts) == 2 and parts[1] == "Chart.yaml" and member.isfile():
                    return _content(members, member)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise ChartInvalid(f"not a gzipped tar archive: {error}") from error
    raise ChartInvalid("an archive without NAME/Chart.yaml")


def _content(members: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MAX_METADATA:
        raise ChartInvalid(f"its Chart.yaml has more than {_MAX_METADATA} bytes")
    file = members.extractfile(member)
    assert file is not None, "it is a file"
    return file.read(_MAX_METADATA)


class _Limited(io.RawIOBase):
    """Ends a gzip bomb, and a member that says to be endless: tarfile reads on to its end, for years."""

    def __init__(self, source: BinaryIO | gzip.GzipFile) -> None:
        self._source, self._left, self._ends = source, _MAX_UNPACKED, 0

    def read(self, size: int = -1) -> bytes:
        wanted = self._left + 1 if size < 0 else min(size, self._left + 1)
        data = self._source.read(wanted)
        self._left -= len(data)
        self._ends += not data
        if self._ends > _MOST_ENDS:
            raise EOFError("a member is longer than the archive")
        if self._left < 0:
            raise OSError(f"more than {_MAX_UNPACKED} bytes unpacked")
        return data


def _known(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of the types that helm's own structure has (pkg/chart/metadata.go); it could not read others."""
    metadata: dict[str, Any] = {key: found[key] for key in _TEXTS if isinstance(found.get(key), str)}
    for key in ("sources", "keywords"):
        if listed := _texts(found.get(key)):
            metadata[key] = listed
    people = [_some(each, ("name", "email", "url")) for each in _mappings(found.get("maintainers"))]
    needed = [_dependency(each) for each in _mappings(found.get("dependencies"))]
    annotations = found.get("annotations")
    notes = annotations if isinstance(annotations, dict) else {}
    more = {
        "maintainers": [each for each in people if each],
        "dependencies": [each for each in needed if each],
        "annotations": {key: value for key, value in notes.items() if isinstance(value, str)},
        "deprecated": found.get("deprecated") == "true",
    }
    return metadata | {key: value for key, value in more.items() if value}


def _dependency(found: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = dict(_some(found, _DEPENDENCY_TEXTS))
    if tags := _texts(found.get("tags")):
        known["tags"] = tags
    if found.get("enabled") == "true":
        known["enabled"] = True
    if isinstance(found.get("import-values"), list):
        known["import-values"] = found["import-values"]
    return known


def _some(found: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    return {key: found[key] for key in keys if isinstance(found.get(key), str)}


def _texts(found: Any) -> list[str]:
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _mappings(found: Any) -> list[Mapping[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _annotations(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Those of `helm push` (pkg/registry/chart.go), but for the time."""
    people = [
        f"{each.get('name', '')} ({each['email']})" if each.get("email") else each.get("name", "")
        for each in metadata.get("maintainers", [])
    ]
    said = {
        "org.opencontainers.image.description": metadata.get("description", ""),
        "org.opencontainers.image.title": metadata["name"],
        "org.opencontainers.image.version": metadata["version"],
        "org.opencontainers.image.url": metadata.get("home", ""),
        "org.opencontainers.image.source": next(iter(metadata.get("sources", [])), ""),
        "org.opencontainers.image.authors": ", ".join(filter(None, people)),
    }
    return {key: value for key, value in (metadata.get("annotations", {}) | said).items() if value}


def _json(document: Mapping[str, Any]) -> bytes:
    """The same bytes for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
