"""`mirrorflow demo`: a sample upstream, a profile, and the mirror of the one by the other."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

from rich.text import Text

from flows.demo.sample_upstream import SampleSummary, fill_sample_upstream
from flows.orchestration.runner_events import DeploymentsApplied, RunEnded
from flows.reporting.console import err, out, say
from flows.reporting.last_runs import last_runs
from flows.reporting.report_tables import render_report
from flows.settings import client_environment
from flows.supervisor.up import Supervisor
from profiles.examples.shipped import shipped_profile
from registry_server.counted import counted
from registry_server.http.server_process import running_server
from registry_server.human_units import human_bytes
from registry_server.oci.errors import MirrorflowError
from registry_server.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

_UPSTREAM_PORT = 5900  # as profiles/examples/demo.yaml has them
_MIRROR_PORT = 5901


class DemoFailed(MirrorflowError):
    """The demo's run did not end as it should."""


def run_demo(folder: Path, *, once: bool) -> None:
    """Fill a sample registry, mirror it, show what happened; serve until Ctrl-C unless `once`.

    Raises `DemoFailed`, and what `Supervisor` raises.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    upstream_port, mirror_port = _free(_UPSTREAM_PORT), _free(_MIRROR_PORT)
    profile = _write_profile(folder, upstream_port, mirror_port)
    sample = fill_sample_upstream(Store.open(folder / "upstream", durability="none"))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running_server(folder / "upstream", port=upstream_port) as url:
            _say_what_is_there(url, sample)
            _mirror(profile, folder, once=once)
    except KeyboardInterrupt:
        say("the demo has ended; its files are in " + str(folder))
    finally:
        signal.signal(signal.SIGTERM, before)


def _mirror(profile: Path, folder: Path, *, once: bool) -> None:
    with Supervisor(profile, console=err) as up:
        up.begin()
        _start_run(up, folder)
        ended = up.follow(until=RunEnded)
        _show_report(folder)
        if not isinstance(ended, RunEnded) or ended.state != "Completed":
            raise DemoFailed(f"the run of the demo did not complete: {ended}")
        if once:
            say(f"the demo has ended; without --once it continues to serve. Its files are in {folder}")
            return
        _say_what_to_look_at(up, profile, folder)
        say("serving; press Ctrl-C to stop")
        up.follow()


def _start_run(up: Supervisor, folder: Path) -> None:
    """A demo that was run before is not due: ask for its run, as `mirrorflow sync` would."""
    applied = up.follow(until=DeploymentsApplied)
    if isinstance(applied, DeploymentsApplied) and any(entry.started for entry in applied.entries):
        return
    store = Store.open(folder / "store")
    home = store.root / "prefect"
    environment = client_environment(os.environ, api_url=up.api_url, home=home, silent=True)
    os.environ.update(environment)
    from prefect.client.orchestration import get_client

    from flows.orchestration.deployment_runs import start_run

    with get_client(sync_client=True) as client:
        start_run(client, store.uuid, "sample")


def _write_profile(folder: Path, upstream_port: int, mirror_port: int) -> Path:
    """The shipped profile beside what it makes, so that it can be read, changed and planned."""
    text = shipped_profile("demo").read_text()
    text = text.replace(str(_UPSTREAM_PORT), str(upstream_port)).replace(str(_MIRROR_PORT), str(mirror_port))
    path = folder / "demo.yaml"
    path.write_text(text)
    return path


def _free(port: int) -> int:
    """The usual port, so that the profile reads like its description; another one where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say_what_is_there(url: str, sample: SampleSummary) -> None:
    out.print(
        Text(
            f"A sample registry is at {url}: {counted(sample.repositories, 'repository', 'repositories')}, "
            f"{counted(sample.tags, 'tag')}, {human_bytes(sample.bytes)}."
        )
    )


def _show_report(folder: Path) -> None:
    reports = Store.open(folder / "store").reports.load_all()
    for run in last_runs(reports, {}).values():
        for line in render_report(run.reports[-1]):
            out.print(line)


def _say_what_to_look_at(up: Supervisor, profile: Path, folder: Path) -> None:
    reports = Store.open(folder / "store").reports.load_all()
    run = reports[-1]["runId"]
    example = next(
        image["image"] for image in reports[0]["images"] if image["image"].startswith("library/nginx")
    )
    host = up.registry_url.removeprefix("http://")
    out.print()
    for what, how in (
        ("The run in the Prefect UI", f"{up.ui_url}/runs/flow-run/{run}"),
        ("Pull from the mirror", f"skopeo copy --src-tls-verify=false docker://{host}/{example} dir:nginx"),
        ("What a change would do", f"mirrorflow plan {profile}"),
        ("Is it complete?", f"mirrorflow status {profile}"),
    ):
        out.print(Text.assemble((f"{what}: ", "bold"), how))
