"""What commands print of others' words sends no command to the terminal, and is printed at all."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from flows.reporting.safe_console import SafeConsole

HOSTILE = "a\x1b]0;title\x07b\x9b31mc\u202ed\ud800e"
PLAIN = "a]0;titleb31mcde"


def _table() -> Table:
    table = Table("image")
    table.add_row(Text(HOSTILE))
    return table


@pytest.mark.parametrize(
    "printed",
    [
        pytest.param(Text(HOSTILE), id="a line"),
        pytest.param(Text.assemble(("error: ", "bold red"), HOSTILE), id="a line with a style"),
        pytest.param(_table(), id="a table"),
        pytest.param(HOSTILE, id="a bare text"),
    ],
)
@pytest.mark.parametrize("terminal", [True, False], ids=["to a terminal", "to a pipe"])
def test_control_characters_are_not_sent(printed: Text | Table | str, *, terminal: bool) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "utf-8", write_through=True)
    SafeConsole(file=file, force_terminal=terminal, highlight=False, width=80).print(printed, markup=False)
    shown = raw.getvalue().decode()
    assert PLAIN in shown
    assert "\x1b]" not in shown


def test_lines_and_what_people_write_stay_as_they_are() -> None:
    file = io.StringIO()
    SafeConsole(file=file, width=80).print("eins\nzwei: käse, 日本, 👩‍💻")
    assert file.getvalue() == "eins\nzwei: käse, 日本, 👩‍💻\n"


def test_a_tag_between_colons_is_no_picture() -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, width=80)
    console.print("app:new: moved", markup=False)
    console.print("app:bug: moved")
    assert file.getvalue() == "app:new: moved\napp:bug: moved\n"


def test_styles_are_sent_to_a_terminal() -> None:
    file = io.StringIO()
    SafeConsole(file=file, force_terminal=True, color_system="standard", width=80).print(Text("x", "red"))
    assert file.getvalue() == "\x1b[31mx\x1b[0m\n"
