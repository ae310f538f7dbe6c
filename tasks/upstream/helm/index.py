"""`index.yaml` of a Helm repository: which versions of which charts there are, and where.

Only what finds a chart is kept; what describes it comes from the chart itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import Tag
from tasks.upstream.helm.plain_yaml import MOST_NODES, PlainYamlInvalid, load_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_MOST_URLS = 4  # of one version
_LONGEST = 4096  # characters of an address


@dataclass(frozen=True, slots=True)
class ChartVersion:
    """One entry. `digest` is the archive's sha256 in hex, "" where the index has none.

    `created` tells a version without a digest from another one at the same place.
    """

    name: str
    version: str
    digest: str
    urls: tuple[str, ...]
    created: str = ""

    @property
    def tag(self) -> str:
        """As `helm push` names it: a tag has no `+`."""
        return self.version.replace("+", "_")

    @property
    def key(self) -> str:
        """Another one where another archive has to be expected.

        `created` is no sign of that: `helm repo index` sets it anew each time.
        """
        parts = (self.name, self.version, self.digest, "" if self.digest else self.created, *self.urls)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class HelmIndex:
    """By name, and by tag. `unusable` are versions that no client could ask for, for a remark."""

    charts: Mapping[str, Mapping[str, ChartVersion]]
    unusable: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        charts = {
            name: [[each.version, each.digest, list(each.urls), each.created] for each in versions.values()]
            for name, versions in self.charts.items()
        }
        return {"charts": charts, "unusable": list(self.unusable)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """What `to_json` made. Raises `ValueError`, `TypeError` or `LookupError` for anything else."""
        charts: dict[str, dict[str, ChartVersion]] = {}
        for name, versions in found["charts"].items():
            made = [ChartVersion(name, each[0], each[1], tuple(each[2]), each[3]) for each in versions]
            charts[name] = {each.tag: each for each in made}
        return cls(charts, tuple(found["unusable"]))


def parse_index(body: bytes) -> HelmIndex:
    """Raises `PlainYamlInvalid`."""
    found = _document(body)
    entries = found.get("entries") if isinstance(found, dict) else None
    if entries is None and isinstance(found, dict) and "apiVersion" in found:
        entries = {}
    if not isinstance(entries, dict):
        raise PlainYamlInvalid("no `entries`: this is not the index of a Helm repository")
    charts: dict[str, dict[str, ChartVersion]] = {}
    unusable: list[str] = []
    for name, versions in entries.items():
        for entry in versions if isinstance(versions, list) else ():
            version = _version(name, entry)
            if version is None:
                unusable.append(_shown(name, entry))
            else:
                charts.setdefault(name, {}).setdefault(version.tag, version)
    return HelmIndex(charts, tuple(unusable))


def _document(body: bytes) -> Any:
    """JSON is YAML too, and much faster to read."""
    if body.lstrip()[:1] == b"{":
        if sum(map(body.count, (b",", b"[", b"{"))) > MOST_NODES:
            raise PlainYamlInvalid(f"more than {MOST_NODES} nodes")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    return load_plain(body)


def _shown(name: str, entry: Any) -> str:
    """For a person: without what would write to the terminal."""
    text = f"{name} {entry.get('version') if isinstance(entry, dict) else ''}"[:120]
    return "".join(each if each.isprintable() else "?" for each in text)


def _version(name: str, entry: Any) -> ChartVersion | None:
    """None for what is removed, has no address, or is no version that a tag could have."""
    if not isinstance(entry, dict) or entry.get("name", name) != name:
        return None
    if entry.get("removed") in ("true", True):  # YAML's text, JSON's truth
        return None
    version, urls, digest = entry.get("version"), entry.get("urls"), entry.get("digest") or ""
    if not isinstance(version, str) or not isinstance(urls, list) or not isinstance(digest, str):
        return None
    places = tuple(each for each in urls if isinstance(each, str) and 0 < len(each) <= _LONGEST)
    match = _DIGEST.fullmatch(digest)
    if not places or (digest and match is None):
        return None
    created = entry.get("created")
    found = ChartVersion(
        name,
        version,
        match[1] if match else "",
        places[:_MOST_URLS],
        created if isinstance(created, str) else "",
    )
    try:
        Tag(found.tag)
    except InvalidName:
        return None
    return found
