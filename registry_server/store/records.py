"""What the store remembers in small JSON files, and how it reads it back.

A file that cannot be read back counts as absent: with durability `none` a power cut leaves empty files,
and a mirror mends what is absent by itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.forms import KEPT, Form

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from registry_server.store.objects.objects import Objects

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that the repository holds: `size` bytes, which never change.

    A collector may remove it a moment later: reading raises FileNotFoundError then.
    """

    digest: Digest
    size: int
    objects: Objects
    key: str

    def descriptor(self) -> int | None:
        """An open file of its bytes, which the caller closes; None where the store is not made of files."""
        return self.objects.descriptor(self.key)

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Its bytes from `start` up to `stop`."""
        return self.objects.pieces(self.key, start, stop)

    def path(self) -> str | None:
        """The absolute path of the file that it is; None where the store is not made of files."""
        return self.objects.path(self.key)

    def url(self, seconds: float) -> str | None:
        """Where anybody may fetch it for so long; None where that is nowhere, or `seconds` is 0."""
        return self.objects.url(self.key, seconds) if seconds else None

    def read(self, at_most: int) -> bytes:
        """Its bytes up to so many: a damaged one may have more than `size`."""
        return b"".join(self.objects.pieces(self.key, 0, at_most))


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest that the repository holds."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tag came from: registry entry, repository and digest there, and the form it was given here.

    The digest differs from the tag's when that form is another one: then the tag stands on both, and this
    is the table that tells a poll which upstream digest became which. `on_demand`: because a client asked
    for it, so that it may go again when nobody does.
    """

    registry: str
    repository: str
    digest: Digest
    form: Form = KEPT
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class TagRecord:
    """What a tag names. `pushed` is in unix seconds; `sparse` are children that are absent on purpose, `gone`
    those of them that the upstream did not have. `foreign`: its foreign layers are here too.

    `verdict` is one line of signature verification, "" where nothing was asked; `judged_by` names the policy
    that it is by: it is another text as soon as that policy judges differently.

    `pending`: with other tags it is about to change (mirror_state/tag_switch.py). `absent`: until then it is
    not there.
    """

    digest: Digest
    media_type: str
    size: int
    pushed: float
    origin: Origin | None = None
    sparse: tuple[Digest, ...] = ()
    verdict: str = ""
    judged_by: str = ""
    gone: tuple[Digest, ...] = ()
    foreign: bool = False
    pending: PendingTag | None = None
    absent: bool = False

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)

    @property
    def roots(self) -> tuple[Digest, ...]:
        """The manifests that the tag stands on: its own, and the original that it was converted from.

        Of a tag that is about to change also those that it will stand on.
        """
        own = (self.digest,) if self.converted_from is None else (self.digest, self.converted_from)
        return own + (self.pending.record.roots if self.pending and self.pending.record else ())

    def settled(self, *, done: bool) -> TagRecord | None:
        """What the tag names now, given whether the change that is pending is done; None: it is not there."""
        if self.pending is None:
            return self
        if done:
            return self.pending.record
        return None if self.absent else replace(self, pending=None)

    @property
    def originals(self) -> tuple[Descriptor, ...]:
        """What `converted_from` names, as far as it is known: not its type (""), nor its size (-1)."""
        return () if self.converted_from is None else (Descriptor("", self.converted_from, -1),)

    @property
    def upstream_digest(self) -> Digest:
        """The digest that the upstream names, also of a converted image; of a pushed one its own."""
        return self.origin.digest if self.origin else self.digest

    @property
    def converted_from(self) -> Digest | None:
        """The upstream's digest, where the image has another form here; it can be pulled as well."""
        if self.origin is None or not self.origin.form or self.origin.digest == self.digest:
            return None
        return self.origin.digest


@dataclass(frozen=True, slots=True)
class PendingTag:
    """What a tag becomes when the change with this id is done; None: it goes."""

    change: str
    record: TagRecord | None = None


@dataclass(frozen=True, slots=True)
class PollRecord:
    """What the last poll of a repository saw; times in unix seconds.

    `upstream`: tag -> upstream digest, only where it differs from what the stored tag came from.
    `problems`: tag ("" is the repository) -> why it is not in place.
    `declined`: tag -> "digest reason", for what is left out as long as its digest stays.
    `companions`: fallback tag -> digest of the list of referrers that has been dealt with; digest of a
    companion -> why it is left out.
    `gone`: tag -> since when its upstream repository does not list it, for tags that are here.
    `lists`: upstream repository -> when its list of tags last told which tags are gone.
    `others`: the last polls of other registry entries that feed the same repository.
    """

    registry: str
    checked: float
    succeeded: float | None = None
    upstream: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    declined: Mapping[str, str] = field(default_factory=dict)
    companions: Mapping[str, str] = field(default_factory=dict)
    gone: Mapping[str, float] = field(default_factory=dict)
    lists: Mapping[str, float] = field(default_factory=dict)
    others: tuple[PollRecord, ...] = ()

    def beside(self, polls: Iterable[PollRecord], keep: Container[str]) -> PollRecord:
        """This record, and with it those of `polls` that other entries made, if they are in `keep`."""
        others = (each for each in polls if each.registry != self.registry and each.registry in keep)
        return replace(self, others=tuple(others))


def encode(document: Mapping[str, Any]) -> bytes:
    """One line of JSON, in ASCII: an annotation may hold half a surrogate pair, which UTF-8 cannot."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def tag_to_json(record: TagRecord) -> dict[str, Any]:
    body: dict[str, Any] = {
        "digest": record.digest,
        "mediaType": record.media_type,
        "size": record.size,
        "pushed": record.pushed,
    }
    if record.origin is not None:
        origin = record.origin
        body["origin"] = {
            "registry": origin.registry,
            "repository": origin.repository,
            "digest": origin.digest,
        } | ({"form": origin.form.to_json()} if origin.form else {})
        if origin.on_demand:
            body["origin"]["onDemand"] = True
    if record.sparse:
        body["sparse"] = list(record.sparse)
    if record.verdict:
        body["verdict"] = record.verdict
    if record.judged_by:
        body["judgedBy"] = record.judged_by
    if record.gone:
        body["gone"] = list(record.gone)
    if record.foreign:
        body["foreignLayers"] = True
    if record.pending is not None:
        after = record.pending.record
        body["next"] = {"change": record.pending.change, "record": after and tag_to_json(after)}
    if record.absent:
        body["absent"] = True
    return body


def tag_from_json(body: Any) -> TagRecord:
    """Raises LookupError, TypeError or ValueError."""
    origin, pending = body.get("origin"), body.get("next")
    return TagRecord(
        digest=Digest(body["digest"]),
        media_type=body["mediaType"],
        size=body["size"],
        pushed=body["pushed"],
        origin=origin and _origin_from_json(origin),
        sparse=tuple(Digest(each) for each in body.get("sparse", ())),
        verdict=str(body.get("verdict", "")),
        judged_by=str(body.get("judgedBy", "")),
        gone=tuple(Digest(each) for each in body.get("gone", ())),
        foreign=body.get("foreignLayers") is True,
        pending=pending and _pending_from_json(pending),
        absent=body.get("absent") is True,
    )


def _pending_from_json(body: Any) -> PendingTag:
    after = body["record"]
    return PendingTag(str(body["change"]), after and tag_from_json(after))


def _origin_from_json(body: Any) -> Origin:
    form = Form.from_json(body.get("form"))
    on_demand = body.get("onDemand") is True
    return Origin(body["registry"], body["repository"], Digest(body["digest"]), form, on_demand)


def poll_to_json(record: PollRecord) -> dict[str, Any]:
    return {
        "registry": record.registry,
        "checked": record.checked,
        "succeeded": record.succeeded,
        "upstream": dict(record.upstream),
        "problems": dict(record.problems),
        "declined": dict(record.declined),
        **({"companions": dict(record.companions)} if record.companions else {}),
        **({"gone": dict(record.gone), "lists": dict(record.lists)} if record.gone else {}),
        **({"others": [poll_to_json(other) for other in record.others]} if record.others else {}),
    }


def poll_from_json(body: Any) -> PollRecord:
    """Raises LookupError, TypeError or ValueError."""
    return PollRecord(
        registry=body["registry"],
        checked=body["checked"],
        succeeded=body["succeeded"],
        upstream=dict(body["upstream"]),
        problems=dict(body["problems"]),
        declined=dict(body.get("declined", {})),
        companions=dict(body.get("companions", {})),
        gone={str(tag): float(since) for tag, since in dict(body.get("gone", {})).items()},
        lists={str(source): float(when) for source, when in dict(body.get("lists", {})).items()},
        others=tuple(poll_from_json(other) for other in body.get("others", ())),
    )


def descriptor_from_json(body: Any) -> Descriptor:
    """Of a manifest, as `Descriptor.to_json` wrote it. Raises LookupError, TypeError or ValueError."""
    return Descriptor(
        media_type=body["mediaType"],
        digest=Digest(body["digest"]),
        size=body["size"],
        artifact_type=body.get("artifactType"),
        annotations=body.get("annotations", {}),
    )


def decoded(content: bytes | None, reader: Callable[[Any], Record]) -> Record | None:
    """None for a file that is absent or that is not one of ours."""
    if content is None:
        return None
    try:
        return reader(json.loads(content))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None
