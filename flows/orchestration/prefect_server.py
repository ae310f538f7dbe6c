"""Our own Prefect server: a child process over a database in a folder of its own, by default in the store.

`up` runs it as long as it lives; `sync` and `rerun` run the same server for one command when there
is no `up`, so that the UI's history is in one place.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from flows.lifecycle.parent_death import ends_with_parent
from flows.orchestration.prefect_port import (
    ADDRESS,
    ChosenPort,
    PrefectServerError,
    choose_port,
    reached_at,
)
from flows.orchestration.server_record import (
    ServerRecord,
    await_other_users,
    claim_database,
    database_holder,
    forget_record,
    is_healthy,
    others_use_server,
    running_server,
    using_server,
    write_record,
)
from flows.orchestration.user_server import named_prefect_errors, require_server
from flows.settings import own_server_wanted, server_environment
from registry_server.store.filesystem.process_identity import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["PrefectServer", "PrefectServerBusy", "PrefectServerError", "prefect_api", "running_server"]

START_TIMEOUT = 120.0
"""Seconds. The first start migrates an empty database: 8-16 s on 2 cores, later ones 4-5 s."""
_STOP_GRACE = 3.0  # seconds from SIGTERM to SIGKILL; SQLite's journal survives either
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception): .")  # the end of a traceback; wrappers print more after it
_TAIL = 1 << 20  # bytes of the log that are searched for a cause
_LONGEST = 300  # characters of one line: shutil.copytree names every file of a folder in one


class PrefectServerBusy(PrefectServerError):
    """Another process, `holder`, runs, starts or stops a server on this database."""

    retryable = True

    def __init__(self, home: Path, holder: ProcessIdentity | None) -> None:
        who = f"pid {holder.pid} on {holder.host}" if holder else "pid unknown"
        super().__init__(
            f"another mirrorflow command ({who}) has the Prefect database {home}: "
            "wait until it ends, or stop it"
        )
        self.holder = holder


class PrefectServerElsewhere(PrefectServerError):
    """The server of this database runs on another host; it listens on the loopback of that one."""

    def __init__(self, home: Path, holder: ProcessIdentity) -> None:
        super().__init__(
            f"the Prefect server of {home} runs on the host {holder.host} (pid {holder.pid}), and cannot be "
            "reached from this one: leave --prefect out, name a folder of this host in `storage.prefectHome`,"
            " or set PREFECT_API_URL to a server that both reach"
        )


class PrefectServer:
    """Start with `with`, or `start()` (`begin()` and `wait()`) and `stop()`. Not reentrant.

    `port` None takes 4200, or any free port when that one is taken; 0 takes any free port; another
    one must be free. `host` is the address to listen on.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        host: str = ADDRESS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self._host = host
        self.log = self.home / "server.log"
        self.url = ""
        self._wanted_port = port
        self._environment = os.environ if environment is None else environment
        self._process: subprocess.Popen[bytes] | None = None
        self._claim: int | None = None
        self._port: ChosenPort | None = None

    @property
    def ui_url(self) -> str:
        return self.url.removesuffix("/api")

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> str:
        """Start and wait until it answers; returns the API's URL.

        Raises PrefectServerBusy, or PrefectServerError with the cause that the log names.
        """
        self.begin()
        self.wait()
        return self.url

    def begin(self) -> str:
        """The API's URL, where the server will answer after `wait`. Raises as `start` does."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._claim = claim_database(self.home)
        if self._claim is None:
            raise PrefectServerBusy(self.home, database_holder(self.home))
        with self._stopping_on_error():
            self._port = choose_port(self._wanted_port, self._host)
            self.url = f"http://{reached_at(self._host)}:{self._port.number}/api"
            self._process = self._spawn(self._port.number)
        return self.url

    def wait(self, progress: Callable[[float], None] = lambda _seconds: None) -> None:
        """Until it answers; `progress` is called with the seconds waited so far.

        Raises PrefectServerError; then it is stopped.
        """
        assert self._process is not None
        with self._stopping_on_error():
            self._await_health(progress)
            process = replace(ProcessIdentity.current(), pid=self._process.pid)
            write_record(self.home, ServerRecord(self.url, process, time.time()))

    @contextmanager
    def _stopping_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def failure(self) -> str | None:
        """None while the server runs; otherwise one sentence with the end of its log."""
        if self._process is None or self._process.poll() is None:
            return None
        return f"the Prefect server ended with status {self._process.returncode}: {last_log_error(self.log)}"

    def stop(self) -> None:
        """End the server, and wait for it. Does nothing when it does not run."""
        if self._process is not None:
            forget_record(self.home, self._process.pid)
            end_process(self._process, grace=_STOP_GRACE)
            self._process = None
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "prefect", "server", "start"]
        command += ["--host", self._host, "--port", str(port)]
        # The options are not enough: the UI asks the API at the address that the settings say.
        address = {"PREFECT_SERVER_API_HOST": self._host, "PREFECT_SERVER_API_PORT": str(port)}
        with self.log.open("wb") as log:
            return subprocess.Popen(
                ends_with_parent(command),
                env={**self._ui(), **server_environment(self._environment, self.home), **address},
                cwd=self.home,  # Prefect reads .env and prefect.toml of its working directory
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is ours to hand on
            )

    def _ui(self) -> dict[str, str]:
        """Where the UI asks the API: where it came from, because browsers elsewhere know another address."""
        return {} if self._host == ADDRESS else {"PREFECT_UI_API_URL": "/api"}

    def _await_health(self, progress: Callable[[float], None]) -> None:
        begun = time.monotonic()
        while not is_healthy(self.url):
            waited = time.monotonic() - begun
            if (failure := self.failure()) is not None:
                raise PrefectServerError(f"{failure} (whole log: {self.log})")
            if waited > START_TIMEOUT:
                raise PrefectServerError(
                    f"the Prefect server did not answer on {self.url} within {START_TIMEOUT:.0f} s "
                    f"(log: {self.log})"
                )
            progress(waited)
            time.sleep(0.1)


@contextmanager
def prefect_api(
    home: Path,
    *,
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Iterator[str]:
    """The API URL that a command such as `sync` works with: the user's own server, that of a running
    `up`, or ours, started for the duration of the block. `say` gets a word about the wait.

    Raises PrefectServerError: PrefectServerElsewhere when ours runs on another host. A server that other
    commands have begun to use is kept for them.
    """
    environment = os.environ if environment is None else environment
    if not own_server_wanted(environment):
        api_url = environment["PREFECT_API_URL"]
        require_server(api_url)
        with named_prefect_errors(api_url):
            yield api_url
        return
    with using_server(home) as users:
        server = PrefectServer(home, port=0, environment=environment)
        try:
            api_url = _find_or_start(server, say)
            with named_prefect_errors(api_url):
                yield api_url
        finally:
            if server.pid is not None:
                _let_others_finish(users, say)
            server.stop()


def _find_or_start(server: PrefectServer, say: Callable[[str], None]) -> str:
    told = False
    seen: ProcessIdentity | None = None
    while True:
        if (url := running_server(server.home)) is not None:
            return url
        if not told:
            say("starting Prefect for this command: 4-16 s, which a running `mirrorflow up` saves")
            told = True
        try:
            return server.start()
        except PrefectServerBusy as busy:  # another command is starting it, or has just stopped it
            _refuse_other_host(server.home, busy.holder, seen)
            seen = busy.holder
            time.sleep(0.2)


def _refuse_other_host(home: Path, holder: ProcessIdentity | None, seen: ProcessIdentity | None) -> None:
    """Raises PrefectServerElsewhere: this process holds `users.lock`, so that waiting could last for ever.

    A holder is named a moment after it has the lock, so that one look may find the holder before it.
    """
    if holder is not None and holder == seen and not holder.is_on_this_host:
        raise PrefectServerElsewhere(home, holder)


def _let_others_finish(users: int, say: Callable[[str], None]) -> None:
    if others_use_server(users):
        say("waiting for another mirrorflow command that uses this Prefect server; Ctrl-C stops it now")
        with suppress(KeyboardInterrupt):
            await_other_users(users)


def end_process(process: subprocess.Popen[bytes], *, grace: float) -> None:
    """SIGTERM, and after `grace` seconds SIGKILL to its whole session; returns when it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            kill_session(process.pid)
    process.wait()


def kill_session(leader: int) -> None:
    """SIGKILL to a child that was started in a session of its own, and to all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def last_log_error(log: Path) -> str:
    """The last exception that a log names, else its last line."""
    try:
        text = log.read_bytes()[-_TAIL:].decode(errors="replace")
    except OSError:
        return "it left no log"
    lines = [line.strip() for line in text.splitlines() if line.strip() and line.strip() != "Server stopped!"]
    exceptions = [line for line in lines if _EXCEPTION.match(line)]
    found = (exceptions or lines or ["it said nothing"])[-1]
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]} …"


_SECONDS: Final = 20.0


def drain_prefect_queues() -> None:
    """Everything that this process has told Prefect is with the server, or 20 s have passed for each kind.

    Otherwise the threads retry for minutes at the end of the process, when the server is gone.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=_SECONDS)
    APILogWorker.drain_all(timeout=_SECONDS)
