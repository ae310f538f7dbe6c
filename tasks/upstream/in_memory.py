"""A sink for a blob that is small enough to look at: configs, signatures."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class InMemory:
    """Keeps what arrives. The caller has looked at the blob's size, and checks its digest."""

    content: bytearray = field(default_factory=bytearray)

    @property
    def offset(self) -> int:
        return len(self.content)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.content += data

    def restart(self) -> None:
        self.content.clear()
