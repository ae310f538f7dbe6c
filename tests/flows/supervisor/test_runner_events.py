"""What `up` is told of runs that have ended."""

from __future__ import annotations

import pytest

from flows.orchestration.runner_events import failed_lines


@pytest.mark.parametrize(
    ("outcomes", "lines"),
    [
        pytest.param(["copied", "left out"], 0, id="nothing failed"),
        pytest.param(["failed", "copied"], 2, id="one line, and what to do"),
        pytest.param(["failed"] * 7, 6, id="the first five, and how many more"),
    ],
)
def test_up_says_which_images_failed_at_which_step_and_why(outcomes: list[str], lines: int) -> None:
    images = [
        {"image": f"app:{number}", "outcome": outcome, "step": "copy_blob", "reason": "403 Forbidden"}
        for number, outcome in enumerate(outcomes)
    ]
    said = failed_lines({"images": images})
    assert len(said) == lines
    if said:
        assert said[0] == "app:0: copy_blob: 403 Forbidden"
        more = "2 more; " if len(outcomes) == 7 else ""
        assert said[-1] == f"{more}`mirrorflow rerun PROFILE` tries them again"
