"""Reading `bundle.json`, which comes from outside: each value is checked, and nothing stands in it twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from registry_server.bundles.document import VERSION, BundleBase, BundledImage, BundleDocument, Content, Part
from registry_server.bundles.errors import BundleInvalid, BundleTooNew
from registry_server.bundles.fields import digest, expect, moment, size_of, text
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ManifestInvalid, MirrorflowError
from registry_server.oci.manifest import MAX_MANIFEST_BYTES
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.oci.strict_json import load_object
from registry_server.store.records import tag_from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


_MOST_PARTS: Final = 100_000


def parse_document(body: bytes, *, planned: bool = False) -> BundleDocument:
    """`planned`: its parts are not written yet. Raises `BundleTooNew`, `BundleInvalid`."""
    document = _object(body)
    check_version(document, VERSION, "bundle.json")
    try:
        found = _read(document)
    except MirrorflowError as error:
        raise BundleInvalid(f"bundle.json: {error}") from error
    _check_consistency(found)
    if not planned:
        _check_parts(found)
    return found


def check_version(document: dict[str, Any], known: int, what: str) -> None:
    """Raises `BundleTooNew`, `BundleInvalid`."""
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleInvalid(f"{what} has no version, so it is none of mirrorflow's")
    if version > known:
        raise BundleTooNew(
            f"{what} has format version {version}, and this mirrorflow knows up to {known}: "
            "install a newer one on this side"
        )


def _object(body: bytes) -> dict[str, Any]:
    try:
        return load_object(body)
    except ManifestInvalid as error:
        raise BundleInvalid(
            f"bundle.json cannot be read: {str(error).replace('the manifest', 'it')}"
        ) from error


def _read(document: dict[str, Any]) -> BundleDocument:
    source = expect(document.get("source"), dict, "source")
    profile = expect(source.get("profile"), dict, "source.profile")
    return BundleDocument(
        created=moment(document.get("created"), "created"),
        store=text(source.get("store"), "source.store"),
        profile=text(profile.get("sha256"), "source.profile.sha256"),
        base=_base(document.get("base")),
        images=_list(document, "images", _image),
        referrers=_referrers(document.get("referrers")),
        contents=_list(document, "contents", _content),
        reports=_list(document, "reports", lambda found, where: expect(found, dict, where)),
        left_out={
            name: text(why, f"leftOut.{name}")
            for name, why in expect(document.get("leftOut"), dict, "leftOut").items()
        },
        split=size_of(document.get("split"), "split"),
        parts=_list(document, "parts", _part),
    )


def _list(document: dict[str, Any], key: str, read: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    found = expect(document.get(key), list, key)
    return tuple(read(each, f"{key}[{number}]") for number, each in enumerate(found))


def _base(found: Any) -> BundleBase | None:
    if found is None:
        return None
    body = expect(found, dict, "base")
    return BundleBase(
        digest(body.get("inventory"), "base.inventory"),
        text(body.get("store"), "base.store"),
        moment(body.get("taken"), "base.taken"),
    )


def _image(found: Any, where: str) -> BundledImage:
    body = expect(found, dict, where)
    name = RepositoryName(text(body.get("repository"), f"{where}.repository"))
    tag = Tag(text(body.get("tag"), f"{where}.tag"))
    try:
        record = tag_from_json(expect(body.get("record"), dict, f"{where}.record"))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleInvalid(f"{where}.record is none of mirrorflow's ({type(error).__name__})") from error
    if record.pending is not None or record.absent:
        raise BundleInvalid(f"{where}.record is of a tag that is about to change, which no bundle has")
    text(record.media_type, f"{where}.record.mediaType")
    size_of(record.size, f"{where}.record.size")
    if record.origin is not None:
        text(record.origin.registry, f"{where}.record.origin.registry")
        text(record.origin.repository, f"{where}.record.origin.repository")
    return BundledImage(name, tag, record, digest(body.get("members"), f"{where}.members"))


def _referrers(found: Any) -> dict[RepositoryName, tuple[Digest, ...]]:
    return {
        RepositoryName(name): tuple(
            digest(each, f"referrers.{name}") for each in expect(digests, list, f"referrers.{name}")
        )
        for name, digests in expect(found, dict, "referrers").items()
    }


def _content(found: Any, where: str) -> Content:
    body = expect(found, dict, where)
    kind = body.get("mediaType")
    return Content(
        digest(body.get("digest"), f"{where}.digest"),
        size_of(body.get("size"), f"{where}.size"),
        "" if kind is None else text(kind, f"{where}.mediaType"),
    )


def _part(found: Any, where: str) -> Part:
    body = expect(found, dict, where)
    return Part(
        text(body.get("name"), f"{where}.name"),
        size_of(body.get("size"), f"{where}.size"),
        digest(f"sha256:{body.get('sha256')}", f"{where}.sha256").hex,
    )


def _check_consistency(found: BundleDocument) -> None:
    """Each thing stands in it once. Raises `BundleInvalid`."""
    if repeated := _repeated(each.digest for each in found.contents):
        raise BundleInvalid(f"bundle.json lists the content {repeated} twice")
    if repeated := _repeated(each.name for each in found.images):
        raise BundleInvalid(f"bundle.json lists the image {repeated} twice")
    for each in found.contents:
        if not each.size and each.digest != Digest.of(b"", each.digest.algorithm):
            raise BundleInvalid(f"bundle.json says that {each.digest} has no byte, which it has")
        if each.media_type and each.size > MAX_MANIFEST_BYTES:
            raise BundleInvalid(
                f"bundle.json says that the manifest {each.digest} has {each.size} bytes; "
                f"at most {MAX_MANIFEST_BYTES} are read"
            )


def _check_parts(found: BundleDocument) -> None:
    """They are those that its contents make. Raises `BundleInvalid`."""
    if found.split and found.tar.size // found.split > _MOST_PARTS:
        raise BundleInvalid(f"bundle.json names more than {_MOST_PARTS} parts")
    if [(each.name, each.size) for each in found.parts] != found.expected_parts:
        raise BundleInvalid("the parts that bundle.json lists are not those of its contents")


def _repeated(found: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for each in found:
        if each in seen:
            return each
        seen.add(each)
    return None
