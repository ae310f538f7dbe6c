"""A console on which words of others stay words. Apart from console.py, because rich takes long to import."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType

# Control characters, of which rich leaves ESC and those from U+0080 on; marks that turn the direction of
# text; halves of surrogate pairs, which cannot be written at all. They have no width: a table keeps its form.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class SafeConsole(Console):
    """What is printed may come from an upstream or a client: it sends no command to the terminal."""

    def __init__(self, **options: Any) -> None:
        """`options` as of `Console`. A tag may be called `new`: between two colons it is no picture."""
        super().__init__(emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As of `Console`: the commands of rich itself are `control` segments, or styles."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            safe = text if control else _UNSAFE.sub("", text)
            yield segment if safe == text else Segment(safe, style)
