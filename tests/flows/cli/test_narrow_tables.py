"""Tables in a terminal of 80 columns: nothing is cut off, and what is wrong is there in words."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from flows.cli.stored_tags import StoredTag
from flows.reporting.entry_status import EntryState, EntryStatus
from flows.reporting.status_tables import render_entries, render_stored_narrow, render_tags_narrow
from flows.reporting.tag_status import TagStatus
from registry_server.oci.digest import Digest
from registry_server.oci.forms import KEPT
from registry_server.oci.reference import ImageName
from registry_server.store.records import Origin, TagRecord

if TYPE_CHECKING:
    from rich.console import RenderableType

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")
LONG = "a-name/that-is/long-enough/to-be-folded/in-any-terminal"


def drawn(what: RenderableType) -> list[str]:
    """The lines in 80 columns."""
    told = StringIO()
    Console(file=told, width=80, highlight=False).print(what)
    lines = [line.rstrip() for line in told.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    return lines


def tag(**keys: object) -> TagStatus:
    fields = {
        "registry": "hub",
        "repository": "app",
        "reference": "1",
        "upstream_digest": str(ONE),
        "stored_digest": str(ONE),
        "last_check": 0.0,
        "last_success": 0.0,
        "problem": "",
    }
    return TagStatus(**{**fields, **keys})  # type: ignore[arg-type] # a table of keys


@pytest.mark.parametrize(
    ("row", "said"),
    [
        pytest.param(tag(), [f"app:1  {ONE.hex[:12]}  same"], id="in place"),
        pytest.param(
            tag(stored_digest=str(TWO)), [f"app:1  {ONE.hex[:12]}  {TWO.hex[:12]}"], id="another digest"
        ),
        pytest.param(
            tag(stored_digest="", upstream_digest="", problem="404 Not Found"),
            ["app:1            -         -", "  404 Not Found"],
            id="not here, nor known",
        ),
        pytest.param(tag(gone_since=0.0), ["gone", "  gone upstream since 1970-01-01T00:00Z"], id="gone"),
        pytest.param(tag(verdict="verified: ours"), ["  verified: ours"], id="a verdict"),
        pytest.param(tag(destination="ecr"), ["  in ecr"], id="elsewhere"),
        pytest.param(tag(problem="[bold]not markup[/]"), ["  [bold]not markup[/]"], id="the words of others"),
    ],
)
def test_a_tag_says(row: TagStatus, said: list[str]) -> None:
    lines = drawn(render_tags_narrow([row], 60.0))
    for words in said:
        assert [line for line in lines if words in line], lines


def test_a_registry_entry_is_a_heading_where_there_are_several() -> None:
    lines = drawn(render_tags_narrow([tag(), tag(registry="quay", repository=LONG)], 60.0))
    assert [line for line in lines if line in ("hub", "quay")] == ["hub", "quay"]
    assert "hub" not in drawn(render_tags_narrow([tag(), tag(reference="2")], 60.0))


def test_a_long_name_is_folded_and_whole() -> None:
    lines = drawn(render_tags_narrow([tag(repository=LONG, problem="x " * 100)], 60.0))
    assert LONG in "".join(line[:50].split("  ")[0] for line in lines)


def test_entries_do_without_the_ids_of_runs() -> None:
    entry = EntryStatus("hub", EntryState.FAILED, "1 of 2 images, 1 failed")
    _, headings, line = drawn(render_entries("/store", [entry], 60.0, narrow=True))
    assert headings.split("  ")[-1] == "outcome"
    assert line.endswith("1 of 2 images, 1 failed")


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        pytest.param(None, "from a push", id="pushed"),
        pytest.param(Origin("hub", LONG, ONE, KEPT), "from hub", id="under its own name"),
        pytest.param(Origin("hub", "other", ONE, KEPT), "from hub: other", id="under another name"),
    ],
)
def test_a_stored_tag_says_where_it_is_from(origin: Origin | None, source: str) -> None:
    record = TagRecord(ONE, "application/vnd.oci.image.manifest.v1+json", 1, 0.0, origin)
    lines = drawn(render_stored_narrow([StoredTag(ImageName.parse(f"{LONG}:1"), record, True)]))
    assert f"  {source}" in lines
    assert "  hidden by a policy" in lines
