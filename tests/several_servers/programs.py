"""Commands of mirrorflow as processes that run until they are stopped, and what they say."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]
_SECONDS = 180.0


class Program:
    """A command that runs as long as the block; its output is kept in `lines`."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self._child = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env={**kept, "COLUMNS": "300", "NO_COLOR": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        self.lines: list[str] = []
        self._news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def children(self) -> list[int]:
        """The pids of its child processes (Linux)."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(each) for each in text.split()]

    def said(self, pattern: str) -> re.Match[str]:
        """Wait for a line in which `pattern` is found. Fails when the program ends before, or takes long."""
        while (line := self._news.get(timeout=_SECONDS)) is not None:
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"the program ended with {self._child.wait()}: {self.lines}")

    def kill(self) -> None:
        """kill -9, of all its processes at one moment."""
        os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()

    def stop(self) -> int:
        """As a supervisor stops it; the exit code."""
        if self._child.poll() is None:
            self._child.terminate()
        try:
            return self._child.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._reader.join()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as output:
            for line in output:
                self.lines.append(line.rstrip("\n"))
                self._news.put(line)
        self._news.put(None)


def receiving(*arguments: object) -> tuple[Program, str]:
    """`mirrorflow receive` on a free port, and the URL that servers find in the store."""
    program = Program("receive", *arguments, "--port", 0)
    return program, program.said(r"at (http://\S+); press")[1]


def serving(*arguments: object) -> tuple[Program, str]:
    """`mirrorflow serve` on a free port, and its URL."""
    program = Program("serve", *arguments, "--port", 0)
    return program, program.said(r"at (http://\S+); press")[1]
