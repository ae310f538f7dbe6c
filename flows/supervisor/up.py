"""`mirrorflow up`: the Prefect server, the runner and the registry server, as children of one process.

This process imports no Prefect and does little: it starts its children, says what they tell, and ends
all of them when one dies or when it is told to. What supervises it (systemd, a person) starts it anew;
the next `up` mends what this one left over.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from flows.entries import open_store
from flows.lifecycle.parent_death import ends_with_parent
from flows.lifecycle.stop_signals import on_signal
from flows.maintenance.garbage_collection import GcSchedule
from flows.orchestration.deployment_definitions import definitions
from flows.orchestration.deployments import ENTRYPOINT
from flows.orchestration.prefect_port import ADDRESS
from flows.orchestration.prefect_server import PrefectServer, end_process, kill_session, last_log_error
from flows.orchestration.runner import GRACE, RunnerOptions
from flows.orchestration.runner_events import DeploymentsApplied, ProfileChanged, RunnerFailed, read_event
from flows.orchestration.user_server import require_server
from flows.orchestration.work_pools.crash_detection import HEARTBEAT_SECONDS, HEARTBEAT_VARIABLE
from flows.receiver.child_process import ReceiverProcess
from flows.reporting.notify.schedule import NotifySchedule
from flows.reporting.page.application import with_page
from flows.reporting.safe_console import SafeConsole
from flows.settings import client_environment, own_server_wanted, prefect_home
from flows.supervisor.view import ArrivingBlobs, SupervisorView
from profiles.loader import load_profile
from profiles.server_options import server_options
from registry_server.http.server_process import ServerProcess
from registry_server.oci.errors import MirrorflowError
from registry_server.store.errors import StoreLocked
from tasks.stored.policy_sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from rich.console import Console

    from flows.orchestration.runner_events import RunnerEvent
    from profiles.model.profile import Profile
    from registry_server.store.store import Store

_BEYOND = 2.0  # seconds that the runner gets beyond its runs' grace
_POLL_INTERVAL = 0.5  # seconds between two looks at the children


class SupervisorError(MirrorflowError):
    """Something that `up` runs has ended; everything else was stopped."""


class Supervisor:
    """All that `up` runs. Use with `with`; then `ui_url`, `registry_url` and `api_url` are known. Runs get
    `grace` seconds to stop.

    Raises StoreLocked when another one serves the store, PrefectServerError, ServerFailed (the registry
    server: its port, its address), StoreError, and what `load_profile` raises.
    """

    def __init__(
        self,
        profile_path: Path,
        *,
        console: Console | None = None,
        prefect_port: int | None = None,
        prefect_host: str = ADDRESS,
        environment: Mapping[str, str] | None = None,
        entrypoint: str = ENTRYPOINT,
        grace: float = GRACE,
    ) -> None:
        self._console = console or SafeConsole(stderr=True)
        self.view = SupervisorView(self._console)
        self._path = profile_path.absolute()
        self._environment = dict(os.environ if environment is None else environment)
        self._prefect_port, self._prefect_host = prefect_port, prefect_host
        self._entrypoint, self._grace = entrypoint, grace
        self._running = ExitStack()
        self._reports: queue.Queue[RunnerEvent | None] = queue.Queue()
        self._runner: subprocess.Popen[bytes] | None = None
        self._prefect: PrefectServer | None = None
        self._registry: ServerProcess | None = None
        self._receiver: ReceiverProcess | None = None
        self._home = self._runner_log = Path()
        self._where = ""
        self._arriving = ArrivingBlobs(())
        self.api_url = self.ui_url = self.registry_url = ""

    def __enter__(self) -> Self:
        profile = load_profile(self._path).profile
        try:
            store = open_store(profile)
            store.require_shareable()
            self._where, self._home = store.where, prefect_home(profile.storage)
            self._arriving = ArrivingBlobs([root.incoming.folder for root in store.roots])
            self._claim(store)
            self._apply_policies(profile, store)
            self._receiver = ReceiverProcess(profile, self._path, self._home, store.uuid)
            self._start_registry(profile, self._receiver.call_file)
            self._begin_prefect()
            # Before Prefect answers, which takes seconds: misses are served without it.
            self._receiver.start(runner_environment(self._environment, self.api_url, self._home))
            self._await_prefect()
            self._start_runner(store)
            self._start_threads(store)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.view.say(f"stopping: runs get {self._grace:.0f} s to end; Ctrl-C again kills them")
        with on_signal(self.kill):
            self.stop()

    def begin(self) -> None:
        """Say where everything is."""
        self.view.begin(
            profile=self._path,
            store=self._where,
            registry_url=self.registry_url,
            ui_url=self.ui_url,
            notifications_url=self._receiver.notifications_url if self._receiver else "",
            receiver_url=self._receiver.url if self._receiver else "",
        )

    def follow(self, *, until: type[RunnerEvent] | None = None) -> RunnerEvent | None:
        """Show what happens: for ever, or until the runner tells an `until`, which is returned.

        Raises SupervisorError when a child has ended.
        """
        with self.view.live():
            while True:
                self.view.redraw(self._arriving.look(time.time()), time.time())
                with suppress(queue.Empty):
                    report = self._reports.get(timeout=_POLL_INTERVAL)
                    if report is not None:
                        self._show(report)
                    if isinstance(report, RunnerFailed):
                        raise SupervisorError(report.message)
                    if until is not None and isinstance(report, until):
                        return report
                    continue
                self._check()

    def _show(self, report: RunnerEvent) -> None:
        self.view.report(report)
        if isinstance(report, DeploymentsApplied | ProfileChanged):
            with suppress(MirrorflowError):  # the file was changed again; the next event has its times
                wanted = definitions(load_profile(self._path).profile, self._path)
                timings = {each.name: each.timing for each in wanted if each.timing}
                self.view.schedule(report.entries, timings)

    def stop(self) -> None:
        """End everything: runs get 10 s, then they are killed; the deployments are paused."""
        registry = threading.Thread(target=self._stop_registry, name="stop-registry")
        registry.start()
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None
        if self._runner is not None:
            end_process(self._runner, grace=self._grace + _BEYOND)
            kill_session(self._runner.pid)  # runs that a killed runner left behind
            self._runner = None
        if self._prefect is not None:
            self._prefect.stop()
            self._prefect = None
        registry.join()
        self._running.close()

    def kill(self) -> None:
        """SIGKILL to everything; for whoever is asked to stop a second time."""
        if self._runner is not None:
            kill_session(self._runner.pid)
        if self._receiver is not None:
            self._receiver.kill()
        for pid in (self._prefect.pid if self._prefect else None, self._registry and self._registry.pid):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _claim(self, store: Store) -> None:
        try:
            self._running.enter_context(store.claim("up"))
        except StoreLocked as error:
            up = error.holder
            who = f" (pid {up.pid} on {up.host})" if up else ""
            here = up is None or up.is_on_this_host
            raise StoreLocked(
                f"another `mirrorflow up`{who} serves this store, {store.where}: stop it first"
                + ("" if here else ", or run `mirrorflow serve` on this host"),
                holder=up,
            ) from error

    def _apply_policies(self, profile: Profile, store: Store) -> None:
        """Before anything is served: what a policy covers and has not judged is not for clients."""
        with self._console.status("judging stored images by the policies of the profile"):
            swept = sweep(profile, store)
        if swept:
            self.view.say(str(swept))

    def _start_registry(self, profile: Profile, on_miss: Path | None) -> None:
        options = with_page(server_options(profile), profile, self._path)
        self._registry = ServerProcess(replace(options, on_miss=on_miss))
        self.registry_url = self._registry.url

    def _begin_prefect(self) -> None:
        if not own_server_wanted(self._environment):
            self.api_url = self._environment["PREFECT_API_URL"]
            require_server(self.api_url)
            self.ui_url = self._environment.get("PREFECT_UI_URL", self.api_url.removesuffix("/api"))
            return
        self._prefect = PrefectServer(
            self._home, port=self._prefect_port, host=self._prefect_host, environment=self._environment
        )
        self.api_url = self._prefect.begin()
        self.ui_url = self._prefect.ui_url

    def _await_prefect(self) -> None:
        if self._prefect is None:
            return
        with self._console.status("starting Prefect") as status:
            self._prefect.wait(
                lambda seconds: status.update(
                    f"starting Prefect, {seconds:.0f} s (5 s, the first time some 15 s)"
                )
            )

    def _start_threads(self, store: Store) -> None:
        """Of this process: mostly they wait, for the disk or for receivers, and a store has one `up`."""
        environment = runner_environment(self._environment, self.api_url, self._home)

        def profile() -> Profile:
            return load_profile(self._path).profile

        for each in (
            GcSchedule(store, profile, self.view.say),
            NotifySchedule(store, profile, self.view.say, environment),
        ):
            self._running.callback(each.stop)
            each.start()

    def _start_runner(self, store: Store) -> None:
        home = self._home
        home.mkdir(parents=True, exist_ok=True)
        self._runner_log = home / "runner.log"
        with suppress(FileNotFoundError):
            self._runner_log.replace(home / "runner.log.1")
        reading, writing = os.pipe()
        options = RunnerOptions(
            str(self._path), str(home), store.uuid, writing, self._entrypoint, self._grace
        )
        with self._runner_log.open("wb") as output:
            self._runner = subprocess.Popen(
                ends_with_parent([sys.executable, *options.arguments()], signal.SIGTERM),
                env=runner_environment(self._environment, self.api_url, self._home),
                cwd=home,  # Prefect reads .env and prefect.toml of its working directory
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        threading.Thread(target=self._read_reports, args=[reading], name="reports", daemon=True).start()

    def _read_reports(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8") as lines:
            for line in lines:
                with suppress(KeyError, TypeError, ValueError):
                    self._reports.put(read_event(line))

    def _check(self) -> None:
        """Raises SupervisorError when a child is gone; the receiver of misses is restarted."""
        if self._receiver is not None and (mended := self._receiver.check()):
            self.view.say(mended)
        if self._runner is not None and self._runner.poll() is not None:
            raise SupervisorError(
                f"the runner ended with status {self._runner.returncode}: {last_log_error(self._runner_log)}"
            )
        if self._prefect is not None and (failure := self._prefect.failure()) is not None:
            raise SupervisorError(failure)
        if self._registry is not None and self._registry.exit_code is not None:
            raise SupervisorError(f"the registry server ended with status {self._registry.exit_code}")

    def _stop_registry(self) -> None:
        if self._registry is not None:
            self._registry.stop()
            self._registry = None


def runner_environment(environment: Mapping[str, str], api_url: str, home: Path) -> dict[str, str]:
    """Of the runner and its runs: what Prefect has to say below a warning goes to its API only.

    The runs send heartbeats as often as the automation of `deploy` expects: it looks after all of a store.
    """
    ours = {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
        HEARTBEAT_VARIABLE: str(HEARTBEAT_SECONDS),
    }
    return {**ours, **client_environment(environment, api_url=api_url, home=home)}


def run_up(
    profile_path: Path,
    *,
    prefect_port: int | None = None,
    prefect_host: str = ADDRESS,
    console: Console | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run until Ctrl-C or SIGTERM, then end all of it within some 12 s; a second Ctrl-C ends it at once.

    For the main thread. Raises SupervisorError when a child has ended, and what `Supervisor` raises.
    """
    up = Supervisor(
        profile_path,
        prefect_port=prefect_port,
        prefect_host=prefect_host,
        console=console,
        environment=environment,
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with up:
            up.begin()
            up.follow()
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
