"""The fenced blocks of the documents, and what their info-strings say."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = tuple(sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]))
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block; `info` are the `key="value"` parts behind the language."""

    document: str
    line: int
    language: str
    info: dict[str, str]
    text: str

    @property
    def id(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    return [_block(path, text, match) for match in _FENCE.finditer(text)]


def all_blocks(*languages: str) -> list[Block]:
    return [block for path in DOCUMENTS for block in blocks(path) if block.language in languages]


def _block(path: Path, text: str, match: re.Match[str]) -> Block:
    language, *rest = shlex.split(match["info"]) or [""]
    info = dict(part.split("=", 1) for part in rest)
    body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
    return Block(path.name, text.count("\n", 0, match.start()) + 1, language, info, body)
