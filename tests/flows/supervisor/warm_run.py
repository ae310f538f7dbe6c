"""What test_warm_process.py has started instead of Prefect's engine."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from pathlib import Path


def end_late() -> None:
    """What Prefect does with its logs and events: a thread sends them, and the end of the program waits."""

    def send() -> None:
        time.sleep(0.3)
        print("from a thread", flush=True)

    atexit.register(print, "at exit", flush=True)
    threading.Thread(target=send).start()


if __name__ == "__main__":
    print(os.getpid(), os.environ["WHAT"], Path.cwd(), *sys.argv[1:], flush=True)
    if os.environ["WHAT"] == "sleeps":
        time.sleep(60)
    if os.environ["WHAT"] == "ends late":
        end_late()
    if os.environ["WHAT"] == "makes a folder":
        Path("made").mkdir()
    sys.exit(int(os.environ.get("CODE", "0")))
