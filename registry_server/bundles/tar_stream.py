"""A tar file as a function of what is in it: where each byte stands is known before one is written.

So a bundle can be written from any place on, and be read at any place; and whoever reads one compares it
with what has to be there. Nothing is parsed: a link, a second entry of one name, a path that leads elsewhere
or a size that lies is another byte than the one expected.

POSIX.1-2001 (pax), "ustar Interchange Format"; no time and no owner, so equal content makes equal bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK: Final = 512
_RECORD: Final = 20 * BLOCK  # what tar programs read at once; files end at a multiple of it
_LONGEST_NAME: Final = 100
_LARGEST: Final = 8**11  # bytes; a size from here on does not fit into its field
_REGULAR: Final = b"0"
_EXTENDED: Final = b"x"
_CHECKSUM: Final = slice(148, 156)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of `size` bytes."""

    name: str
    size: int

    @property
    def head(self) -> bytes:
        """What stands before its content."""
        records = _records(self)
        if not records:
            return _header(self.name, self.size, _REGULAR)
        extended = _header("././@PaxHeader", len(records), _EXTENDED) + records + _padding(len(records))
        return extended + _header(self.name[:_LONGEST_NAME], self.size % _LARGEST, _REGULAR)

    @property
    def tail(self) -> bytes:
        """What stands after its content."""
        return _padding(self.size)


@dataclass(slots=True)
class TarStream:
    """The bytes of a tar file with these members, by their places."""

    members: Sequence[Member]
    _starts: list[int] = field(default_factory=list)
    _end: int = 0  # of the last member

    def __post_init__(self) -> None:
        for member in self.members:
            self._starts.append(self._end)
            self._end += len(member.head) + member.size + len(member.tail)

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        return -(-(self._end + 2 * BLOCK) // _RECORD) * _RECORD

    @property
    def end_mark(self) -> bytes:
        """The zeros that end the file."""
        return bytes(self.size - self._end)

    def content_start(self, number: int) -> int:
        """Where the content of a member begins."""
        return self._starts[number] + len(self.members[number].head)

    def segments(self, start: int = 0) -> Iterator[Segment]:
        """All of the file from the byte `start` on, in pieces that are either known or a part of a member."""
        first = max(0, bisect_right(self._starts, start) - 1)
        for number in range(first, len(self.members)):
            yield from self._segments_of(number, start)
        if start < self.size:
            skipped = max(0, start - self._end)
            yield Segment(
                max(start, self._end), self.size - self._end - skipped, known=self.end_mark[skipped:]
            )

    def _segments_of(self, number: int, start: int) -> Iterator[Segment]:
        member, place = self.members[number], self._starts[number]
        for known in (member.head, None, member.tail):
            length = member.size if known is None else len(known)
            skipped = min(length, max(0, start - place))
            if skipped < length:
                rest = None if known is None else known[skipped:]
                yield Segment(place + skipped, length - skipped, number, skipped, rest)
            place += length


@dataclass(frozen=True, slots=True)
class Segment:
    """`length` bytes of a tar file from `start` on.

    `known` are these bytes; None: they are the content of the member `number`, from its byte `skipped` on.
    """

    start: int
    length: int
    number: int = -1
    skipped: int = 0
    known: bytes | None = None


def _records(member: Member) -> bytes:
    """What does not fit into the header, as pax records."""
    found = []
    if len(member.name) > _LONGEST_NAME:
        found.append(_record("path", member.name))
    if member.size >= _LARGEST:
        found.append(_record("size", str(member.size)))
    return b"".join(found)


def _record(key: str, value: str) -> bytes:
    """`<length> key=value\n`, whose length counts itself."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _header(name: str, size: int, kind: bytes) -> bytes:
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0",  # uid
        b"0000000\0",  # gid
        f"{size:011o}\0".encode(),
        b"00000000000\0",  # mtime
        b" " * 8,  # the checksum counts as blanks
        kind,
        b"\0" * 100,  # linkname
        b"ustar\x0000",
        b"\0" * 247,  # uname, gname, devmajor, devminor, prefix, and the rest of the block
    )
    block = bytearray(b"".join(fields))
    block[_CHECKSUM] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)
