"""The tar of a bundle, compared with what Python's tarfile reads and GNU tar takes apart."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_server.bundles.tar_stream import BLOCK, Member, TarStream

if TYPE_CHECKING:
    from pathlib import Path

SHA256 = "blobs/sha256/" + "a" * 64
SHA512 = "blobs/sha512/" + "b" * 128  # does not fit into a ustar header


def written(stream: TarStream, contents: list[bytes], start: int = 0) -> bytes:
    """The bytes from `start` on, as a writer makes them."""
    return b"".join(
        each.known if each.known is not None else contents[each.number][each.skipped :]
        for each in stream.segments(start)
    )


def made(contents: dict[str, bytes]) -> tuple[TarStream, bytes]:
    stream = TarStream([Member(name, len(content)) for name, content in contents.items()])
    return stream, written(stream, list(contents.values()))


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"oci-layout": b"{}"}, id="one file"),
        pytest.param({SHA256: b""}, id="an empty file"),
        pytest.param({SHA256: bytes(BLOCK)}, id="exactly one block"),
        pytest.param({SHA512: b"long name", "index.json": b"after it"}, id="a name that needs pax"),
    ],
)
def test_tarfile_reads_what_was_written(contents: dict[str, bytes], tmp_path: Path) -> None:
    stream, body = made(contents)
    assert len(body) == stream.size
    with tarfile.open(fileobj=io.BytesIO(body)) as found:
        members = found.getmembers()
        assert {each.name: found.extractfile(each).read() for each in members} == contents  # type: ignore[union-attr] # all are files
        assert all((each.mtime, each.uid, each.mode) == (0, 0, 0o644) for each in members)
    path = tmp_path / "made.tar"
    path.write_bytes(body)
    listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True)
    assert listed.stdout.splitlines() == list(contents)
    assert listed.stderr == ""


def test_a_size_beyond_eight_gibibytes_is_in_a_pax_record() -> None:
    size = 8**11 + 5
    head = Member("blobs/large", size).head
    found = tarfile.TarInfo.frombuf(head[-BLOCK:], "ascii", "strict")
    assert found.size == 5  # what fits; the record before it has the whole
    assert b" size=8589934597\n" in head


@given(
    sizes=st.lists(st.integers(0, 3 * BLOCK), max_size=6),
    place=st.integers(0, 30_000),
)
@settings(max_examples=200, deadline=None)
def test_a_writer_can_begin_at_any_byte(sizes: list[int], place: int) -> None:
    contents = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    stream = TarStream([Member(f"file-{number}", size) for number, size in enumerate(sizes)])
    body, start = written(stream, contents), min(place, stream.size)
    assert written(stream, contents, start) == body[start:]
    for number, content in enumerate(contents):
        begin = stream.content_start(number)
        assert body[begin : begin + len(content)] == content


@given(sizes=st.lists(st.integers(0, 3 * BLOCK), max_size=6), start=st.integers(0, 20_000))
@settings(max_examples=200, deadline=None)
def test_segments_say_where_they_are(sizes: list[int], start: int) -> None:
    stream = TarStream([Member(f"file-{number}", size) for number, size in enumerate(sizes)])
    place = min(start, stream.size)
    for segment in stream.segments(place):
        assert segment.start == place
        assert segment.length > 0
        place += segment.length
    assert place == stream.size
