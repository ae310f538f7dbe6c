"""A run into another registry in a process of its own, to be killed: python -m … FOLDER UPSTREAM TARGET"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.tasks.runs import mirror, opened

if __name__ == "__main__":
    folder, upstream, target, *to = sys.argv[1:]
    section = {"destinations": [{"name": "other", "url": target}]}
    with opened(Path(folder), upstream, to=to or ["other"], more=section) as found:
        print(mirror(found).message)
