"""A store in a bucket beside one in a folder, and several workers beside one.

`python -m benchmarks.bucket_and_workers [mirror|pull|workers]` prints JSON: each figure of each round. It
wants versitygw on PATH, which runs on the same machine: so its CPU is a part of every wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.ours import environment, sync_plainly
from benchmarks.harness.processes import cpu_seconds, run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.bundled import bundled
from benchmarks.harness.upstreams.content import Mirror, Poll, put
from benchmarks.harness.upstreams.proxy import proxied
from registry_server.http.server_options import ServerOptions
from registry_server.http.server_process import ServerProcess
from registry_server.store.objects.storage_driver import StorageDriver
from registry_server.store.remote_storage import RemoteStorage
from registry_server.store.store import Store
from tests.support.object_storage import ENVIRONMENT, running_s3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.object_storage import S3Server

LATENCY: Final = 0.005  # seconds a request
SMALL_LAYERS: Final = Mirror(300, 4, 20_000)
LARGE_LAYERS: Final = Mirror(40, 4, 4_000_000)
TAGS: Final = Poll(1_000, 20)
BLOBS: Final = {"64 KiB": (64 << 10, 400), "8 MiB": (8 << 20, 40)}  # size, and how many are pulled

_SHARD: Final = """
import sys
from pathlib import Path
from flows.direct_run import run_direct
from profiles.values.shard import Shard
shard = Shard.parse(sys.argv[2]) if sys.argv[2:] else None
state, message = run_direct(Path(sys.argv[1]), "upstream", shard=shard)
assert state == "COMPLETED", message
"""


@dataclass(frozen=True)
class Bench:
    """Where it works. `url` is that of the S3 server as the store reaches it."""

    root: Path
    s3: S3Server
    rounds: int
    _number: Iterator[int]

    def folder(self) -> Path:
        path = self.root / f"{next(self._number):03}"
        path.mkdir()
        return path

    def storage(self, folder: Path, url: str) -> dict[str, Any]:
        """The section of a profile: in the folder, or at `url` if that is given."""
        section: dict[str, Any] = {"rootDirectory": str(folder / "store")}
        if url:
            bucket = self.s3.make_bucket(f"bucket{folder.name}")
            section["storageDriver"] = {
                "name": "s3", "bucket": bucket, "region": "us-east-1", "regionendpoint": url,
            }  # fmt: skip
        return section


def first_mirrors(bench: Bench) -> dict[str, Any]:
    """Seconds and CPU seconds of a first mirror; requests an image, and a repository at a poll after it."""
    found: dict[str, Any] = {}
    host = bench.s3.url.removeprefix("http://")
    for name, mirror in (("small layers", SMALL_LAYERS), ("large layers", LARGE_LAYERS)):
        source = bench.folder()
        mirror.fill(Store.open(source, durability="none"))
        with bundled(source) as upstream, proxied(host, latency=LATENCY) as late:
            places = {"folder": "", "bucket": bench.s3.url, "bucket, 5 ms": late.url}
            turns = {
                place: partial(_mirrored, bench, mirror, upstream.url, url) for place, url in places.items()
            }
            found[name] = alternately(bench.rounds, turns)
        shutil.rmtree(source)
    return found


def _mirrored(bench: Bench, mirror: Mirror, upstream: str, url: str) -> dict[str, float]:
    folder = bench.folder()
    profile = write_profile(folder, upstream, folder, more={"storage": bench.storage(folder, url)})
    bench.s3.new_requests()
    first = sync_plainly(profile)
    asked = len(bench.s3.new_requests())
    sync_plainly(profile)
    again = len(bench.s3.new_requests())
    shutil.rmtree(folder)
    return {
        "wall": first.wall,
        "cpu": first.cpu,
        "requests an image": asked / mirror.images,
        "requests a repository and poll": again / mirror.repositories,
    }


def pulls(bench: Bench) -> dict[str, Any]:
    """CPU seconds of the server, and seconds, for GETs of blobs one after the other."""
    folder = bench.folder()
    bucket = bench.s3.make_bucket("pulls")
    driver = StorageDriver("s3", bucket, region="us-east-1", regionendpoint=bench.s3.url)
    remote = RemoteStorage(driver)
    store, found = Store.open(folder, remote=remote), {}
    for size, (number_of_bytes, times) in BLOBS.items():
        digest = put(store, "app", size, number_of_bytes).digest
        ways = {"307": replace(remote, redirect_seconds=600.0), "streamed": remote}
        found[size] = alternately(
            bench.rounds, {way: partial(_pulled, folder, how, digest, times) for way, how in ways.items()}
        )
    return found


def _pulled(folder: Path, remote: RemoteStorage, digest: str, times: int) -> dict[str, float]:
    server = ServerProcess(ServerOptions(folder, port=0, remote=remote))
    try:
        urls = [f"{server.url}/v2/app/blobs/{digest}"]
        command = ["curl", "--silent", "--fail", "--location", "--output", "/dev/null"]
        run([*command, *urls])
        used, began = cpu_seconds(server.pid), time.perf_counter()
        run([*command, *urls * times], statuses=(0,))
        return {
            "wall a GET": (time.perf_counter() - began) / times,
            "cpu a GET": (cpu_seconds(server.pid) - used) / times,
        }
    finally:
        server.stop()


def workers(bench: Bench) -> dict[str, Any]:
    """Seconds, with the start of Python: one worker for all, and two with a shard each, side by side."""
    found: dict[str, Any] = {}
    for name, source in (("first mirror", SMALL_LAYERS), ("poll", TAGS)):
        folder = bench.folder()
        source.fill(Store.open(folder, durability="none"))
        with bundled(folder) as upstream:
            for place, url in (("folder", ""), ("bucket", bench.s3.url)):
                turns = {
                    f"{number}": partial(_worked, bench, upstream.url, url, number, poll=name == "poll")
                    for number in (1, 2)
                }
                found[f"{name}, {place}"] = alternately(bench.rounds, turns)
        shutil.rmtree(folder)
    return found


def _worked(bench: Bench, upstream: str, url: str, number: int, *, poll: bool) -> dict[str, float]:
    folder = bench.folder()
    more = {"storage": bench.storage(folder, url)}
    profile = write_profile(folder, upstream, folder, more=more, shards=number, reqConcurrent=8 * number)
    shards = [f"{each}/{number}" for each in range(1, number + 1)] if number > 1 else [""]
    if poll:
        _side_by_side(profile, shards)
    began, used = time.perf_counter(), _children_cpu()
    _side_by_side(profile, shards)
    result = {"wall": time.perf_counter() - began, "cpu": _children_cpu() - used}
    shutil.rmtree(folder)
    return result


def _side_by_side(profile: Path, shards: list[str]) -> None:
    commands = [[sys.executable, "-c", _SHARD, str(profile), *filter(None, [each])] for each in shards]
    running = [subprocess.Popen(each, env=environment(), stdout=subprocess.DEVNULL) for each in commands]
    assert [each.wait() for each in running] == [0] * len(shards)


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def _bench(rounds: int) -> Iterator[Bench]:
    root = Path(tempfile.mkdtemp(prefix="mirrorflow-bench-", dir="/dev/shm"))
    os.environ.update(ENVIRONMENT)
    try:
        with running_s3(root / "s3") as s3:
            yield Bench(root, s3, rounds, iter(range(1_000)))
    finally:
        shutil.rmtree(root)


def main() -> None:
    parts = {"mirror": first_mirrors, "pull": pulls, "workers": workers}
    parser = argparse.ArgumentParser("python -m benchmarks.bucket_and_workers", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with _bench(given.rounds) as bench:
        for name in given.parts or parts:
            sys.stdout.write(json.dumps({name: parts[name](bench)}, indent=1) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
