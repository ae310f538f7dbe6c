"""A process that has imported Prefect and the flows, and forks a process for each run.

To start Python and import Prefect takes some 2 s of CPU; a fork takes some 20 ms. A run still has a process
of its own, which can be killed, and whose memory is given back.

    WarmProcess           in the runner: starts the server below, and makes the launcher what Prefect starts
    launcher (_LAUNCHER)  what Prefect's Runner starts as "Python": passes environment and standard streams on
                          to the server, forwards signals, and exits as the run does
    serve()               the process that forks

Where the server is not there (yet), the launcher becomes the Python that was asked for.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import random
import runpy
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from flows.lifecycle.parent_death import die_with_parent, ends_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINE: Final = "prefect.engine"
_NEEDED: Final = (
    "flows.mirror_registry",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.concurrency.services",
    "prefect.concurrency._sync",
    "prefect.utilities.visualization",
    "fastapi",
    "anyio._backends._asyncio",
)
_LONGEST_ADDRESS: Final = 100  # bytes; unix(7) has room for 107 and a zero, others for less
_LARGEST: Final = 1 << 20  # bytes of an environment
_MESSAGE_SECONDS: Final = 2.0  # that a launcher may take between its connection and its message
_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT)

# Imports nothing but the standard library's smallest: it takes some 15 ms.
_LAUNCHER: Final = """\
import json, os, signal, socket, sys
python, address = sys.argv[1:3]
arguments = sys.argv[3:]
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    link.connect(address)
    asked = {"environment": dict(os.environ), "folder": os.getcwd(), "arguments": arguments}
    socket.send_fds(link, [json.dumps(asked).encode()], [0, 1, 2])
    started = json.loads(link.recv(4096) or b"null")
except OSError:
    started = None
if not started:
    os.execv(python, [python, *arguments])
def forward(number, _frame):
    try:
        os.kill(started["pid"], number)
    except ProcessLookupError:
        pass
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, forward)
ended = json.loads(link.recv(4096) or '{"code": -9}')
if ended["code"] < 0:
    signal.signal(-ended["code"], signal.SIG_DFL) if -ended["code"] != 9 else None
    os.kill(os.getpid(), -ended["code"])
sys.exit(ended["code"])
"""


@dataclass(slots=True)
class WarmProcess:
    """For the runner. `folder` is where the socket and the launcher are; only their owner may use them."""

    folder: Path
    module: str = ENGINE  # what a run is started with: `python -m MODULE`
    python: str = field(default_factory=lambda: sys.executable)
    again_after: float = 30.0  # seconds from start to start
    _server: subprocess.Popen[bytes] | None = None
    _started: float = 0.0

    def start(self) -> None:
        """From the main thread: the server and its runs end with it.

        `sys.executable` is the launcher from now on. Where the folder cannot hold one (its path is too long
        for a socket, or nothing may be executed there), runs start as they do without.
        """
        home = self.folder / "warm"
        home.mkdir(mode=0o700, exist_ok=True)
        address, program, launcher = home / "socket", home / "launcher.py", home / "python"
        program.write_text(_LAUNCHER, encoding="utf-8")
        command = [self.python, "-I", "-S", str(program), self.python, str(address)]
        launcher.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        launcher.chmod(0o700)
        if len(os.fsencode(address)) > _LONGEST_ADDRESS or not os.access(launcher, os.X_OK):
            return
        arguments = ["-m", "flows.orchestration.warm_process", str(address), self.module]
        from prefect.settings import get_current_settings

        # As Prefect's Runner makes the environment of a run: equal settings need not be read again.
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        command = ends_with_parent([self.python, *arguments])
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, **settings})
        self._started = time.monotonic()
        sys.executable = str(launcher)

    def ensure(self) -> None:
        """Start it again when it has ended; not at once when it ends again and again."""
        if self._server is None or self._server.poll() is None:
            return
        if time.monotonic() - self._started >= self.again_after:
            sys.executable = self.python
            self.start()

    def ask_to_end(self) -> None:
        """It ends when its runs have ended, and starts no more."""
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()

    def stop(self) -> None:
        """Now. Its runs end with it."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()


def serve(address: str, module: str) -> NoReturn:
    """Until SIGTERM, and then until the runs have ended. One thread: a fork copies no other."""
    _preload(module)
    with suppress(FileNotFoundError):
        Path(address).unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours = os.umask(0o077)
    listener.bind(address)
    os.umask(ours)  # the runs inherit it
    listener.listen(64)
    _Server(listener, module).run()


def _preload(module: str) -> None:
    """What a run imports, also late. None of it starts a thread."""
    for name in (module, *_NEEDED):
        with suppress(ImportError):
            importlib.import_module(name)


@dataclass(slots=True)
class _Server:
    listener: socket.socket
    module: str
    runs: dict[int, socket.socket] = field(default_factory=dict)  # by process id
    stopping: bool = False

    def run(self) -> NoReturn:
        wake, woken = socket.socketpair()
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            selector.register(self.listener, selectors.EVENT_READ)
            while self.runs or not self.stopping:
                for key, _ in selector.select():
                    if key.fileobj is self.listener:
                        self._accept(selector)
                    else:
                        woken.recv(4096)
                        self._reap()
                if self.stopping and self.listener in selector.get_map():
                    selector.unregister(self.listener)
                    self.listener.close()  # launchers that wait there start Python themselves
        sys.exit(0)

    def _stop(self, *_: Any) -> None:
        self.stopping = True

    def _accept(self, selector: selectors.BaseSelector) -> None:
        link, _ = self.listener.accept()
        wanted, descriptors = _receive(link)
        if wanted is None:
            link.close()
            return
        # A signal that comes before the fork has its own handlers is kept until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            selector.close()
            self.listener.close()
            die_with_parent(parent)
            _become(self.module, wanted, descriptors, link)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        _close(descriptors)
        self.runs[pid] = link
        with suppress(OSError):
            link.send(json.dumps({"pid": pid}).encode())

    def _reap(self) -> None:
        for pid in list(self.runs):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                link = self.runs.pop(pid)
                code = os.waitstatus_to_exitcode(status)
                with suppress(OSError):
                    link.send(json.dumps({"code": code}).encode())
                link.close()


def _receive(link: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """What a launcher wants, and its standard streams; None when it does not say so, or not soon."""
    descriptors: list[int] = []
    link.settimeout(_MESSAGE_SECONDS)
    try:
        asked, descriptors, _, _ = socket.recv_fds(link, _LARGEST, 3)
        wanted: dict[str, Any] = json.loads(asked)
    except (OSError, ValueError):
        _close(descriptors)
        return None, []
    link.settimeout(None)
    return wanted, descriptors


def _close(descriptors: Sequence[int]) -> None:
    for each in descriptors:
        os.close(each)


def _become(module: str, wanted: dict[str, Any], descriptors: Sequence[int], link: socket.socket) -> NoReturn:
    """In the fork: what the launcher was started as."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, each in enumerate(descriptors):
        os.dup2(each, target)
        os.close(each)
    before = _settings()
    os.environ.clear()
    os.environ.update(wanted["environment"])
    if _settings() != before:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()  # 0.2 s
    os.chdir(wanted["folder"])
    random.seed()
    threading.Thread(target=_end_with, args=(link,), daemon=True).start()
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        code = _run(module, wanted["arguments"])
        _finish()
    finally:
        os._exit(code)


def _finish() -> None:
    """What Python does at the end of a program. Prefect sends the last logs and events of a run then.

    All but taking the modules apart, which takes longer than the rest.
    """
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - there is no public name
    atexit._run_exitfuncs()  # noqa: SLF001 - as above
    sys.stdout.flush()
    sys.stderr.flush()


def _settings() -> dict[str, str]:
    """What Prefect reads its settings from; `PREFECT__` is of the run alone."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PREFECT_") and not name.startswith("PREFECT__")
    }


def _run(module: str, arguments: Sequence[str]) -> int:
    """`python -m MODULE`, in this process. Nothing else is started through the launcher."""
    if list(arguments[:2]) != ["-m", module]:
        return subprocess.call([sys.executable, *arguments])
    sys.argv = [module, *arguments[2:]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it is imported already
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - what Python does at the end of a program
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _end_with(link: socket.socket) -> None:
    """A launcher that was killed cannot forward that."""
    with suppress(OSError):
        while link.recv(1):
            pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(*sys.argv[1:3])
