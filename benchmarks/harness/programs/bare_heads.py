"""The limit for a poll: the same HEADs by a bare pool of threads, `http.client`, one connection a thread.

`python -m benchmarks.harness.programs.bare_heads HOST WIDTH FILE`: FILE has one path a line. It prints the
seconds.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from registry_server.oci.media_types import ACCEPT


def main() -> None:
    host, width, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    paths = file.read_text().split()
    local = threading.local()

    def head(path: str) -> int:
        connection: HTTPConnection | None = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = HTTPConnection(host)
        connection.request("HEAD", path, headers={"Accept": ACCEPT})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    began, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(width) as threads:
        found = sum(status == 200 for status in threads.map(head, paths))
    clock = {"wall": time.perf_counter() - began, "cpu": time.process_time() - used}
    print(json.dumps({**clock, "found": found}))


if __name__ == "__main__":
    main()
