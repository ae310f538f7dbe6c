"""Where the tests put blobs."""

from __future__ import annotations


class MemorySink:
    """What the store's incoming blob does, in memory; `restarts` counts how often it was thrown away."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.restarts = 0

    @property
    def offset(self) -> int:
        return len(self.content)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.content += data

    def restart(self) -> None:
        self.restarts += 1
        self.content.clear()
