from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flows.orchestration.deployment_changes import (
    PAUSED_TAG,
    LastApplied,
    merge_tags,
    merge_variables,
)
from flows.orchestration.deployment_record import FILE, read_record, write_record

if TYPE_CHECKING:
    from pathlib import Path
from uuid import uuid4


@pytest.mark.parametrize(
    ("live", "last", "wanted", "merged"),
    [
        pytest.param(["ours"], [], ["ours"], ["ours"], id="nothing changed"),
        pytest.param(["ours", "theirs"], [], ["ours", "new"], ["ours", "theirs", "new"], id="one is added"),
        pytest.param(["ours", "old", "theirs"], ["old"], ["ours"], ["ours", "theirs"], id="one is dropped"),
        pytest.param(["ours", "old"], [], ["ours"], ["ours", "old"], id="not known to be of the profile"),
        pytest.param(["theirs"], ["old"], ["ours"], ["theirs", "ours"], id="the user took one away"),
        pytest.param(["ours", PAUSED_TAG], [], ["ours"], ["ours"], id="applying ends the pause of up"),
    ],
)
def test_tags_of_users_stay(live: list[str], last: list[str], wanted: list[str], merged: list[str]) -> None:
    assert merge_tags(live, last, wanted) == merged


@pytest.mark.parametrize(
    ("live", "last", "wanted", "merged"),
    [
        pytest.param({"image": "a"}, {}, {}, {"image": "a"}, id="a user's variable"),
        pytest.param({"image": "a"}, {}, {"image": "b"}, {"image": "b"}, id="the profile wins where it says"),
        pytest.param({"image": "a"}, {"image": "a"}, {}, {}, id="dropped from the profile"),
        pytest.param({"image": "c"}, {"image": "a"}, {}, {"image": "c"}, id="dropped, and changed by a user"),
        pytest.param(
            {"env": {"A": "1", "B": "2"}},
            {"env": {"A": "1"}},
            {"env": {"A": "3"}},
            {"env": {"A": "3", "B": "2"}},
            id="a section is merged as well",
        ),
        pytest.param(
            {"env": {"A": "1", "B": "2"}}, {"env": {"A": "1"}}, {}, {"env": {"B": "2"}}, id="and undone"
        ),
        pytest.param({"env": {"A": "1"}}, {"env": {"A": "1"}}, {}, {}, id="and goes when nothing is left"),
        pytest.param({"env": None}, {}, {"env": {"A": "1"}}, {"env": {"A": "1"}}, id="a section for a value"),
    ],
)
def test_job_variables_of_users_stay(
    live: dict[str, Any], last: dict[str, Any], wanted: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert merge_variables(live, last, wanted) == merged


def test_what_the_profile_said_is_remembered(tmp_path: Path) -> None:
    record = {uuid4(): LastApplied(("a",), {"env": {"A": "1"}})}
    write_record(tmp_path / "prefect", record)
    assert read_record(tmp_path / "prefect") == record
    assert (tmp_path / "prefect" / FILE).stat().st_mode & 0o077 == 0, "job variables may be secrets"


@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"no-uuid": {}}', "null"])
def test_a_record_that_cannot_be_read_takes_nothing_away(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / FILE).write_text(text)
    assert read_record(tmp_path) == {}
