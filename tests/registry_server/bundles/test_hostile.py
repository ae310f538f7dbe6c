"""Bundles that somebody made to harm: each is refused with a sentence, before anything of it is used.

The attacker writes `bundle.json` too, with right checksums for what he changed: a signature is not what holds
him up here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.bundles.errors import (
    BundleDamaged,
    BundleError,
    BundleIncomplete,
    BundleInvalid,
    BundleTooNew,
)
from registry_server.bundles.reading import Bundle
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.registry_server.bundles.making import checked, create
from tests.registry_server.store.images import tag_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Document = dict[str, Any]
ONE, TWO = b"a" * 700, b"b" * 700  # of one size, so that they can be exchanged


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "store", durability="none")
    tag_image(store.repository(RepositoryName("team/app")), "v1", ONE, TWO)
    create(store, tmp_path / "bundle")
    return tmp_path / "bundle"


def rewrite(bundle: Path, change: Callable[[Document], object]) -> None:
    path = bundle / "bundle.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def first(key: str, **values: Any) -> Callable[[Document], object]:
    """Changes the first element of a list."""
    return lambda document: document[key][0].update(values)


def again(key: str) -> Callable[[Document], object]:
    return lambda document: document[key].append(document[key][0])


def key(name: str, value: Any) -> Callable[[Document], object]:
    return lambda document: document.update({name: value})


def test_the_bundle_is_good_before_it_is_changed(bundle: Path) -> None:
    body = (bundle / "bundle.tar").read_bytes()
    assert checked(bundle) == len(body)
    assert _tar(_members(body), len(body)) == body  # what differs below is what was changed


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        pytest.param(
            key("version", 2), BundleTooNew, "format version 2.*install a newer", id="a later format"
        ),
        pytest.param(key("version", True), BundleInvalid, "has no version", id="a version that is none"),
        pytest.param(key("contents", {}), BundleInvalid, "contents is {}; expected a list", id="no list"),
        pytest.param(
            first("contents", digest="sha256:../../../etc/passwd"),
            BundleInvalid,
            "is not a digest",
            id="a digest that is a path",
        ),
        pytest.param(
            again("contents"), BundleInvalid, "lists the content sha256:.* twice", id="a content twice"
        ),
        pytest.param(
            again("images"), BundleInvalid, "lists the image team/app:v1 twice", id="an image twice"
        ),
        pytest.param(
            first("images", repository="../../etc"),
            BundleInvalid,
            "is not a repository name",
            id="a path as name",
        ),
        pytest.param(first("images", tag="../v1"), BundleInvalid, "is not a tag", id="a path as tag"),
        pytest.param(first("images", record={}), BundleInvalid, "record is none of", id="an empty record"),
        pytest.param(
            lambda found: found["images"][0]["record"]["origin"].update(registry=["hub"]),
            BundleInvalid,
            "origin.registry is .'hub'.; expected text",
            id="an origin that is a list",
        ),
        pytest.param(
            lambda found: found["images"][0]["record"]["origin"].update(repository="a\x1b[2Jb"),
            BundleInvalid,
            "expected one line",
            id="escape sequences for the terminal",
        ),
        pytest.param(
            lambda found: found["images"][0]["record"].update(next={"change": "1", "record": None}),
            BundleInvalid,
            "of a tag that is about to change",
            id="a tag that becomes another one later",
        ),
        pytest.param(
            lambda found: found["images"][0]["record"].update(absent=True),
            BundleInvalid,
            "of a tag that is about to change",
            id="a tag that is not there",
        ),
        pytest.param(
            first("parts", name="../store/format.json"),
            BundleInvalid,
            "the parts that bundle.json lists",
            id="a part elsewhere",
        ),
        pytest.param(
            first("parts", name="/etc/passwd"),
            BundleInvalid,
            "the parts that",
            id="a part at an absolute path",
        ),
        pytest.param(first("parts", size=1), BundleInvalid, "the parts that", id="a part of another size"),
        pytest.param(again("parts"), BundleInvalid, "the parts that", id="a part twice"),
        pytest.param(
            first("contents", size=-1), BundleInvalid, "expected a number of bytes", id="less than none"
        ),
        pytest.param(
            first("contents", size=2**70),
            BundleInvalid,
            "expected a number of bytes",
            id="more than any disk",
        ),
        pytest.param(
            first("contents", size=True), BundleInvalid, "is True; expected a number", id="no number"
        ),
        pytest.param(first("contents", size=0), BundleInvalid, "has no byte", id="content without bytes"),
        pytest.param(
            first("contents", size=2**40), BundleInvalid, "at most 4194304 are read", id="a huge manifest"
        ),
        pytest.param(key("split", 1), BundleInvalid, "the parts that", id="parts of a byte"),
        pytest.param(key("created", "yesterday"), BundleInvalid, "expected a time", id="no time"),
        pytest.param(
            key("created", "2026-01-02T03:04:05.000006+05:00"),
            BundleInvalid,
            "expected one such as",
            id="a time that does not compare",
        ),
        pytest.param(key("base", "sha256:00"), BundleInvalid, "base is .*expected an object", id="no base"),
    ],
)
def test_a_document_that_lies_is_refused(
    bundle: Path, change: Callable[[Document], object], error: type[BundleError], words: str
) -> None:
    rewrite(bundle, change)
    with pytest.raises(error, match=words):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "is not JSON", id="empty"),
        pytest.param(b"[]", "expected an object", id="a list"),
        pytest.param(b'{"version": 1, "version": 2}', "stands twice", id="a key twice"),
        pytest.param(b'{"a":' * 100 + b"1" + b"}" * 100, "nested more than", id="nested"),
        pytest.param(b'{"a":' * 100_000, "cannot be read", id="nested beyond the stack"),
        pytest.param(b"\xff\xfe", "not UTF-8", id="no text"),
    ],
)
def test_a_document_that_is_none_is_refused(bundle: Path, body: bytes, words: str) -> None:
    (bundle / "bundle.json").write_bytes(body)
    with pytest.raises(BundleInvalid, match=words):
        Bundle.open(bundle)


def test_a_document_that_is_larger_than_any_is_not_read(bundle: Path) -> None:
    """A bomb of holes: it takes no place on the disk."""
    with (bundle / "bundle.json").open("r+b") as file:
        file.truncate(2**33)
    with pytest.raises(BundleInvalid, match="is no file of at most"):
        Bundle.open(bundle)


def test_nothing_is_parsed_before_the_signature_counts(bundle: Path) -> None:
    (bundle / "bundle.json").write_bytes(b"anything")

    def refuses(digest: Digest) -> None:
        assert digest == Digest.of(b"anything")
        raise BundleError("nobody signed it")

    with pytest.raises(BundleError, match="nobody signed it"):
        Bundle.open(bundle, refuses)


@pytest.mark.parametrize("name", ["bundle.json", "bundle.tar"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_regular_files_are_read(bundle: Path, name: str, kind: str) -> None:
    path = bundle / name
    elsewhere = bundle.parent / "elsewhere"
    path.rename(elsewhere)
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises((BundleIncomplete, BundleInvalid)):
        checked(bundle)


def replace_tar(bundle: Path, body: bytes) -> None:
    """With the checksum of the new one in `bundle.json`."""
    (bundle / "bundle.tar").write_bytes(body)
    rewrite(bundle, first("parts", sha256=hashlib.sha256(body).hexdigest()))


def _members(body: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return [(each, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr] # all are files


def _tar(members: list[tuple[tarfile.TarInfo, bytes]], size: int) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return sink.getvalue()[:size].ljust(size, b"\0")


def linked(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member, _ = members[-1]
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0


def hard_linked(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member, _ = members[-1]
    member.type, member.linkname, member.size = tarfile.LNKTYPE, "index.json", 0


def elsewhere(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[-1][0].name = "../../../../etc/cron.d/run"


def absolute(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[-1][0].name = "/etc/passwd"


def twice(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Beyond the last entry: readers that take the last one of a name would take this."""
    member = tarfile.TarInfo("index.json")
    member.size = 2
    members.append((member, b"{}"))


def exchanged(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Both contents are right, and under each other's names."""
    (one, first_content), (two, second_content) = members[-2:]
    assert len(first_content) == len(second_content)
    members[-2:] = [(one, second_content), (two, first_content)]


def other_index(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member, content = members[1]
    members[1] = (member, content.replace(b"team/app", b"team/abc"))


def runnable(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[-1][0].mode = 0o4755


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(linked, "the tar around the contents", id="a symbolic link"),
        pytest.param(hard_linked, "the tar around the contents", id="a hard link"),
        pytest.param(elsewhere, "the tar around the contents", id="a path that leads up"),
        pytest.param(absolute, "the tar around the contents", id="an absolute path"),
        pytest.param(twice, "the tar around the contents", id="an entry twice"),
        pytest.param(exchanged, "sha256:.* is not what it was made as", id="contents exchanged"),
        pytest.param(other_index, "the tar around the contents", id="an index of another image"),
        pytest.param(runnable, "the tar around the contents", id="an entry that may be run"),
    ],
)
def test_a_tar_that_is_not_the_one_described_is_refused(
    bundle: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None], words: str
) -> None:
    body = (bundle / "bundle.tar").read_bytes()
    members = _members(body)
    change(members)
    changed = _tar(members, len(body))
    assert changed != body
    replace_tar(bundle, changed)
    with pytest.raises(BundleDamaged, match=words):
        checked(bundle)


@pytest.mark.parametrize("place", [0, 300, 511, 1024, 5000, -1])
def test_every_byte_counts(bundle: Path, place: int) -> None:
    body = bytearray((bundle / "bundle.tar").read_bytes())
    body[place] ^= 1
    replace_tar(bundle, bytes(body))
    with pytest.raises(BundleDamaged, match=r"bundle\.tar"):
        checked(bundle)


def test_a_part_with_another_checksum_than_the_document_says_is_named(bundle: Path) -> None:
    rewrite(bundle, first("parts", sha256="0" * 64))
    with pytest.raises(BundleDamaged, match=r"bundle\.tar has another checksum"):
        checked(bundle)


def test_a_content_that_changes_after_the_check_is_noticed_when_it_is_used(bundle: Path) -> None:
    with Bundle.open(bundle) as found:
        found.check()
        digest = next(each.digest for each in found.document.contents if each.media_type)
        place = found.document.tar.content_start(found.document.places[digest])
        with (bundle / "bundle.tar").open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        with pytest.raises(BundleDamaged, match=f"{digest} is not what it was made as"):
            found.small(digest, 10_000)


def test_a_part_that_becomes_shorter_while_it_is_read_is_an_error(bundle: Path) -> None:
    with Bundle.open(bundle) as found:
        digest = Digest.of(TWO)
        stream = found.stream(digest)
        with (bundle / "bundle.tar").open("r+b") as file:
            file.truncate(100)
        with pytest.raises(BundleIncomplete, match="copy it again"):
            b"".join(stream)
