"""What test_warm_process.py has started instead of Prefect's engine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    print(os.getpid(), os.environ["WHAT"], Path.cwd(), *sys.argv[1:], flush=True)
    if os.environ["WHAT"] == "sleeps":
        time.sleep(60)
    sys.exit(int(os.environ.get("CODE", "0")))
