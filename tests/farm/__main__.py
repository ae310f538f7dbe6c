"""`python -m tests.farm`: a farm whose hosts are killed, as large as is wanted. The test runs a small one."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.farm.chaos import asked_again, check_visible, fetched, finish, kill_hosts
from tests.farm.farm import Size, await_ready, running_farm


def main() -> None:
    """Mirror while hosts die, then to the end; say what was seen."""
    given = _parser().parse_args()
    size = Size(given.images, given.repositories)
    with (
        tempfile.TemporaryDirectory(prefix="mirrorflow-farm-") as folder,
        running_farm(Path(folder), size, storage=given.storage) as farm,
    ):
        for number in range(len(farm.servers)):
            await_ready(farm, number)
        runs = kill_hosts(farm, given.kills, given.seed, _say)
        finish(farm, runs)
        for number in range(len(farm.servers)):
            _say(f"server {number + 1}: {check_visible(farm, number)} of {farm.images} images are whole")
        counts = fetched(farm)
        again = counts.total() - len(counts)
        _say(f"{len(counts)} blobs were fetched, {again} times one again; runs: {dict(runs.ended())}")
        for reason, number in asked_again(farm, runs).items():
            _say(f"asked again, {number} times: {reason}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.farm", description=__doc__)
    parser.add_argument("--storage", choices=["folder", "s3"], default="s3")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repositories", type=int, default=40)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
