"""One sync without Prefect: the DAG on threads of one process.

`python -m benchmarks.harness.programs.plain PROFILE` does it in a process of its own, which is what is
measured. It prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from flows.entries import open_store
from profiles.loader import load_profile
from tasks.context.mirror_run import open_run
from tasks.engines.dag import Dag
from tasks.engines.direct_engine import direct_engine
from tasks.engines.steps import run_step
from tasks.results.poll_records import record_polls
from tasks.results.report import build_report
from tasks.run.record import RunRecord


def main() -> None:
    began, used = time.perf_counter(), time.process_time()
    profile = load_profile(Path(sys.argv[1])).profile
    started, record, store = time.time(), RunRecord(), open_store(profile)
    with (
        store.lease(),
        open_run(profile, profile.sync.registries[0], store) as run,
        direct_engine(run, partial(run_step, run)) as engine,
    ):
        failure = Dag(run, engine, record).mirror()
        record_polls(run, record)
        report = build_report(run, record, started=started, run_id="", failure=failure).to_json()
    print(json.dumps(_summary(report, time.perf_counter() - began, time.process_time() - used)))


def _summary(report: dict[str, Any], wall: float, cpu: float) -> dict[str, Any]:
    told = {key: report[key] for key in ("state", "message", "totals", "requests")}
    return {"wall": wall, "cpu": cpu, **told}


if __name__ == "__main__":
    main()
