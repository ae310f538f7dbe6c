"""One sync through Prefect, as `mirrorflow sync` does it, with a clock around the flow alone.

`python -m benchmarks.harness.programs.flow PROFILE`, with PREFECT_API_URL set; prints what it found as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    from flows.entries import open_store
    from flows.orchestration.prefect_server import drain_prefect_queues
    from flows.settings import client_environment, prefect_home
    from profiles.loader import load_profile

    path = Path(sys.argv[1])
    profile = load_profile(path).profile
    store = open_store(profile)
    api = os.environ["PREFECT_API_URL"]
    os.environ.update(
        client_environment(os.environ, api_url=api, home=prefect_home(profile.storage), silent=True)
    )
    from flows.orchestration.in_process import run_in_process

    began, used = time.perf_counter(), time.process_time()
    state = run_in_process(path, profile.sync.registries[0].name)
    clock = {"wall": time.perf_counter() - began, "cpu": time.process_time() - used}
    drain_prefect_queues()
    newest = max(store.reports.load_all(), key=lambda report: report["ended"])
    keys = ("state", "message", "totals", "requests", "runId")
    print(json.dumps({**clock, "flow": state.type.value, **{key: newest[key] for key in keys}}))


if __name__ == "__main__":
    main()
