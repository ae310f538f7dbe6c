"""Which entries a run mirrors by itself, and what `check` says that each one is for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from flows.cli.check import describe_profile
from flows.entries import selected_entries
from profiles.loader import parse_profile
from tasks.run.errors import NotWanted

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.model.profile import Profile

RULES: Final = {"content": [{"prefix": "**"}]}
DEMAND, POLL = {"onDemand": True}, {"pollInterval": "6h"}


def profile_of(folder: Path, *entries: dict[str, Any], **sync: Any) -> Profile:
    registries = [
        {"urls": [f"https://r{number}"], "name": f"r{number}", **each} for number, each in enumerate(entries)
    ]
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": registries, **sync}}
    return parse_profile(json.dumps(document), folder / "p.json").profile


@pytest.mark.parametrize(
    ("entry", "synced", "said", "source"),
    [
        pytest.param(RULES | POLL, True, "polled every 6h, from", "zot: pollInterval", id="polled"),
        pytest.param(
            RULES | POLL | DEMAND,
            True,
            "polled every 6h, fetched on demand, from",
            "zot: a registry may have both",
            id="polled and on demand",
        ),
        pytest.param(
            RULES | DEMAND,
            False,
            "fetched on demand alone; all of it only with `sync --registry r0`, from",
            "project-zot/zot#254: no polling without pollInterval",
            id="on demand, within rules",
        ),
        pytest.param(
            RULES | DEMAND | {"pollInterval": "0s"},
            False,
            "fetched on demand alone; all of it",
            "project-zot/zot#254: zero is no interval",
            id="on demand, with an interval of zero",
        ),
        pytest.param(
            DEMAND, False, "fetched on demand alone, from", "zot: no content, all of it", id="on demand, all"
        ),
        pytest.param(
            RULES,
            True,
            "mirrored only by `mirrorflow sync`, from",
            "regsync once: a run that somebody starts",
            id="by hand",
        ),
        pytest.param({}, False, "unused: it has neither", "nothing says what to take", id="nothing"),
    ],
)
def test_an_entry_is_mirrored_whole_by_itself_unless_it_is_for_clients(
    tmp_path: Path, entry: dict[str, Any], said: str, source: str, *, synced: bool
) -> None:
    profile = profile_of(tmp_path, entry, RULES | POLL)
    names = [each.name for each in selected_entries(profile, None)]
    assert names == ["r0", "r1"] if synced else ["r1"], source
    assert any(f"r0: {said}" in line for line in describe_profile(profile)), list(describe_profile(profile))
    assert [each.name for each in selected_entries(profile, ["r0"])] == ["r0"]


@pytest.mark.parametrize(
    ("entries", "sync", "said"),
    [
        pytest.param([RULES | DEMAND], {}, "add '--registry r0'", id="all of it is on demand"),
        pytest.param([DEMAND], {}, "no registry entry with content rules", id="no rule"),
        pytest.param([RULES], {"enable": False}, "or `sync.enable: false`", id="turned off"),
    ],
)
def test_nothing_to_sync_says_what_to_write(
    tmp_path: Path, entries: list[dict[str, Any]], sync: dict[str, Any], said: str
) -> None:
    with pytest.raises(NotWanted) as refused:
        selected_entries(profile_of(tmp_path, *entries, **sync), None)
    assert said in str(refused.value)
