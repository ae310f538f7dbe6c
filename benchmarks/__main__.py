"""`make bench`: run the benchmarks, print the table, keep it as JSON and as plots."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.peers.servers import MissingPeer
from benchmarks.harness.place import open_place
from benchmarks.harness.report.machine import describe
from benchmarks.harness.report.results import RESULTS, document, keep
from benchmarks.harness.report.table import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.place import Place
    from benchmarks.harness.report.rows import Row

NAMES: Final = (
    "start",
    "nothing_new",
    "few_new",
    "one_blob",
    "first_mirror",
    "to_registry",
    "serve",
    "push",
    "on_demand",
    "pull_through",
    "verification",
    "object_storage",
    "workers",
    "orchestration",
    "growth",
    "paths",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all ran; 1: a benchmark broke; 3: a peer is missing. A missed budget is no error: it is a result."""
    options = _options(arguments)
    found: dict[str, list[Row]] = {}
    problems: dict[str, str] = {}
    with open_place(small=options.small, folder=options.folder) as place:
        machine = describe(place.root)
        for name in options.names or NAMES:
            _run(place, name, found, problems, long=options.long)
    rows = [row for each in found.values() for row in each]
    machine["upstreams"] = "; ".join(map(upstream_of, found))
    print(render(rows))
    for name, problem in problems.items():
        print(f"{name}: {problem}")
    if options.json:
        options.json.write_text(json.dumps(document(machine, rows, problems), indent=1) + "\n")
    if folder := _results(options):
        keep(folder, machine, found)
    return 1 if problems else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--small", action="store_true", help="tiny: does it run? No figure means anything")
    parser.add_argument("--long", action="store_true", help="growth: to 100,000 tags, 3,000 images")
    parser.add_argument("--json", type=Path, help="write every figure of every round into this file")
    parser.add_argument(
        "--results",
        type=Path,
        help="write table, JSON and plots into this folder (default, for all benchmarks: benchmarks/results, "
        "and the table into docs/benchmarks.md)",
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: in memory, if there is room)")
    return parser.parse_args(arguments)


def _results(options: argparse.Namespace) -> Path | None:
    given: Path | None = options.results
    return given or (None if options.names or options.small else RESULTS)


def run_one(place: Place, name: str, *, long: bool = False) -> list[Row]:
    """The rows of one benchmark; `long`: of its long version, where it has one. Raises `MissingPeer`."""
    module: Any = importlib.import_module(f"benchmarks.measured.{name}")
    full = getattr(module, "LONG", module.FULL) if long else module.FULL
    rows: list[Row] = module.measure(place, module.SMALL if place.small else full).rows()
    return rows


def upstream_of(name: str) -> str:
    """Which upstream the rows of a benchmark mirror from."""
    module: Any = importlib.import_module(f"benchmarks.measured.{name}")
    return f"{name}: {module.UPSTREAM}"


def _run(
    place: Place, name: str, found: dict[str, list[Row]], problems: dict[str, str], *, long: bool
) -> None:
    began = time.monotonic()
    place.say(f"{name} ...")
    try:
        found[name] = run_one(place, name, long=long)
    except MissingPeer as missing:
        problems[name] = str(missing)
    except Exception as error:  # noqa: BLE001 - the others are worth running all the same
        traceback.print_exc()
        problems[name] = f"{type(error).__name__}: {error}"
    place.say(f"{name}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
