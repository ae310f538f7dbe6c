"""A bucket of versitygw over a folder in memory; its access log is the witness of what was asked."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.peers.servers import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOGIN: Final = {"AWS_ACCESS_KEY_ID": "mirror", "AWS_SECRET_ACCESS_KEY": "of-the-benchmark"}
_NAME: Final = "mirror"


@dataclass(frozen=True, slots=True)
class Bucket:
    host: str
    log: Path

    def settings(self, host: str = "") -> dict[str, Any]:
        """As `storage.storageDriver` of a profile, and of zot, says it. `host`: of a proxy before it."""
        return {
            "name": "s3", "bucket": _NAME, "rootdirectory": "/store", "region": "us-east-1",
            "regionendpoint": f"http://{host or self.host}", "forcepathstyle": True, "secure": False,
        }  # fmt: skip

    def asked(self) -> int:
        """How many requests it has had."""
        return len(self.log.read_text().splitlines())


@contextmanager
def running_bucket(gateway: str, folder: Path) -> Iterator[Bucket]:
    """`gateway`: the path of versitygw. What is stored goes below `folder`."""
    port, log = free_port(), folder / "s3.log"
    (folder / "buckets" / _NAME).mkdir(parents=True)
    log.touch()
    login = {
        "ROOT_ACCESS_KEY": LOGIN["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": LOGIN["AWS_SECRET_ACCESS_KEY"],
    }
    options = ["--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "--access-log", str(log)]
    with running([gateway, *options, "posix", str(folder / "buckets")], port, more=login) as server:
        yield Bucket(server.host, log)
