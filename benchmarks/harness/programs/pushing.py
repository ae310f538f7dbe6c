"""Pushing one blob in one piece (distribution-spec, "POST then PUT"), as quickly as a socket goes.

`python -m benchmarks.harness.programs.pushing HOST REPOSITORY FILE DIGEST`; prints the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit


def main() -> None:
    host, repository, file, digest = sys.argv[1:]
    connection = HTTPConnection(host, blocksize=1 << 18)
    began = time.perf_counter()
    connection.request("POST", f"/v2/{repository}/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 202, answer.status
    place = urlsplit(answer.headers["Location"])
    target = f"{place.path}?{place.query}{'&' if place.query else ''}digest={digest}"
    _put(connection, target, Path(file))
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 201, said
    print(json.dumps({"wall": time.perf_counter() - began}))


def _put(connection: HTTPConnection, target: str, path: Path) -> None:
    connection.putrequest("PUT", target)
    connection.putheader("Content-Length", str(path.stat().st_size))
    connection.putheader("Content-Type", "application/octet-stream")
    connection.endheaders()
    with path.open("rb") as content:
        connection.sock.sendfile(content)


if __name__ == "__main__":
    main()
