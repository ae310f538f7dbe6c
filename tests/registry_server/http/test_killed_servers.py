"""A server that is killed while clients push: what they were told is visible is there, and whole.

`MIRRORFLOW_KILLS=200` for as many kills as one likes.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from typing import TYPE_CHECKING

from registry_server.http.push.push_limits import PushLimits
from registry_server.http.server_options import ServerOptions
from registry_server.http.server_process import ServerProcess
from registry_server.store.store import Store
from tests.registry_server.http.crashing import Promises, Writer, pull_everything
from tests.registry_server.store.images import check

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("MIRRORFLOW_KILLS", "6"))
WRITERS = 3
LONGEST = 0.6  # seconds until a server is killed


def _kill_at_random(server: ServerProcess, promises: Promises, seed: int) -> None:
    """With its workers at one moment, while clients push."""
    stopped = threading.Event()
    writers = [Writer(who, server.url, promises, seed) for who in range(WRITERS)]
    failures: list[BaseException] = []

    def work(writer: Writer) -> None:
        try:
            writer.work(stopped)
        except BaseException as failure:  # noqa: BLE001 - shown below
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for each in threads:
        each.start()
    stopped.wait(random.Random(seed).uniform(0, LONGEST))  # noqa: S311 - a schedule, no secret
    os.killpg(server.pid, signal.SIGKILL)
    stopped.set()
    for each in threads:
        each.join()
    server.stop()
    if failures:
        raise failures[0]


def test_a_server_killed_at_any_moment_leaves_every_visible_tag_whole(tmp_path: Path) -> None:
    """The server that is pulled from is the one that is killed next, over the same store."""
    # Each kill leaves sessions behind, and nobody waits a day here for them to end.
    limits = PushLimits(require_blobs=1, sessions=10**6, client_sessions=10**6)
    options = ServerOptions(tmp_path / "store", port=0, workers=2, writable=True, limits=limits)
    promises, pulled = Promises(), 0
    for kill in range(KILLS + 1):
        server = ServerProcess(options)
        try:
            visible = pull_everything(server.url)
            promises.settle(visible)
            pulled += len(visible)
            if kill < KILLS:
                _kill_at_random(server, promises, kill)
        finally:
            server.stop()
    print(f"{KILLS} kills, {promises.kept} acknowledged, {pulled} pulls of whole images afterwards")
    assert check(Store.open(options.root)) == len(visible)
    assert promises.kept > KILLS
