"""How `rerun` finds the profile that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from flows.cli.mirror_commands import _of_rerun


@pytest.mark.parametrize(
    ("words", "option", "expected"),
    [
        (("demo.yaml", None), None, ("demo.yaml", None)),
        (("demo.yaml", "1-2"), None, ("demo.yaml", "1-2")),
        ((None, None), "demo.yaml", ("demo.yaml", None)),
        (("1-2", None), "demo.yaml", ("demo.yaml", "1-2")),
        # MIRRORFLOW_PROFILE says one, and the command another.
        (("demo.yaml", None), "other.yaml", ("demo.yaml", None)),
        (("demo.yaml", "1-2"), "other.yaml", ("demo.yaml", "1-2")),
    ],
)
def test_rerun_takes_its_profile_where_it_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str | None, str | None],
    option: str | None,
    expected: tuple[str, str | None],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").touch()
    found = _of_rerun(*words, Path(option) if option else None)
    assert found == (Path(expected[0]), expected[1])


def test_rerun_without_any_profile_says_what_to_write() -> None:
    with pytest.raises(typer.BadParameter, match=r"mirrorflow rerun profile\.yaml"):
        _of_rerun(None, None, None)
