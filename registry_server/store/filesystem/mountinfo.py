"""Which mount a path is on, from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")  # blank, tab, newline and backslash in a path


@dataclass(frozen=True, slots=True)
class Mount:
    """`options` are those of the mount and those of the file system, by name; a flag has the value ""."""

    mount_point: str
    kind: str
    source: str
    options: dict[str, str]


def parse_mountinfo(text: str) -> Iterator[Mount]:
    """The mounts, in the order of the text; a line of another form is left out."""
    for line in text.splitlines():
        own, separator, of_file_system = line.partition(" - ")
        fields, rest = own.split(" "), of_file_system.split(" ")
        if separator and len(fields) >= 6 and len(rest) >= 2:
            options = ",".join([fields[5], *rest[2:3]])
            yield Mount(_unescaped(fields[4]), rest[0], _unescaped(rest[1]), dict(_options(options)))


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that the absolute, real `path` is on; of two at one place, the later one hides the other."""
    found = None
    for mount in mounts:
        if _is_below(path, mount.mount_point) and (
            found is None or len(mount.mount_point) >= len(found.mount_point)
        ):
            found = mount
    return found


def _is_below(path: str, mount_point: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{mount_point.rstrip('/')}/")


def _options(text: str) -> Iterator[tuple[str, str]]:
    for option in text.split(","):
        name, _, value = option.partition("=")
        yield name, value


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)
