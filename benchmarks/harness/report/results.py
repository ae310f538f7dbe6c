"""What is kept of a run: JSON with every figure, the table, and plots. git ignores all plots but one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.report.machine import sentence
from benchmarks.harness.report.plots import SHOWN, draw
from benchmarks.harness.report.reasons import reasons
from benchmarks.harness.report.table import headlines, markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.harness.report.rows import Row

RESULTS: Final = Path(__file__).parents[2] / "results"
README: Final = Path(__file__).parents[3] / "README.md"
DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "benchmarks.md"
PICTURE: Final = DOCUMENT.parent / "pictures" / "benchmarks.svg"
_TABLE: Final = re.compile(r"(?<=<!-- benchmarks -->\n).*?(?=<!-- /benchmarks -->)", re.DOTALL)


def document(
    machine: Mapping[str, str], rows: Sequence[Row], problems: Mapping[str, str] | None = None
) -> dict[str, Any]:
    return {"machine": machine, "rows": [row.to_json() for row in rows], "problems": dict(problems or {})}


def keep(folder: Path, machine: Mapping[str, str], found: Mapping[str, Sequence[Row]]) -> None:
    """Write into `folder`. The documents show the results of the folder that is committed."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for each in found.values() for row in each]
    (folder / "results.json").write_text(json.dumps(document(machine, rows), indent=1) + "\n")
    why = reasons(rows)
    table = "\n".join(
        [markdown(rows), *([why] if why else []), f"Measured: {sentence(machine)}.\n", _upstreams(machine)]
    )
    (folder / "table.md").write_text(table)
    for name, each in found.items():
        draw(name, each, folder / f"{name}.svg")
    if folder == RESULTS:
        draw("mirrorflow and its peers", [row for row in rows if row.is_named_in(SHOWN)], PICTURE)
        DOCUMENT.write_text(in_place(DOCUMENT.read_text(), table))
        README.write_text(in_place(README.read_text(), headlines(rows)))


def _upstreams(machine: Mapping[str, str]) -> str:
    return f"Upstreams: {machine['upstreams']}.\n"


def in_place(text: str, table: str) -> str:
    """`text` with the table between its two marks."""
    return _TABLE.sub(lambda _: table, text)
