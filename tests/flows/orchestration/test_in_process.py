"""A flow in the command's own process: what it is told that a run of `up` is not."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("chosen", "seconds"),
    [
        pytest.param({}, None, id="nobody asked for one: the run does not wait for it at its end"),
        pytest.param({"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": 60}, 60, id="somebody's automation counts on it"),
        pytest.param({"PREFECT_FLOWS_DEFAULT_RETRIES": 1}, None, id="something else was set"),
    ],
)
def test_a_run_has_a_heartbeat_only_where_a_user_wants_one(
    chosen: dict[str, int], seconds: int | None
) -> None:
    from prefect.settings import get_current_settings, temporary_settings

    from flows.orchestration.in_process import without_heartbeat

    with temporary_settings(chosen), without_heartbeat():
        assert get_current_settings().flows.heartbeat_frequency == seconds
