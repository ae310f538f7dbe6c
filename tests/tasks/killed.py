"""A run in a process of its own, to be killed: python -m tests.tasks.killed FOLDER URL [IMAGE]"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.tasks.runs import mirror, opened

if __name__ == "__main__":
    folder, url, *only = sys.argv[1:]
    with opened(Path(folder), url, only=only) as found:
        print(mirror(found).message)
