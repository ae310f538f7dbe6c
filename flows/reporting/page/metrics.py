"""The state of each registry entry as series of `/metrics`, from the same snapshot as the page."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flows.reporting.entry_status import requests_of
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flows.reporting.page.snapshot import Snapshot, Snapshots

_COUNTS = {
    "images": "Images of the entry that are stored.",
    "problems": "Images that are not in place: failed, missing, or short of a policy.",
    "held": "Images whose newer digest waits for minAge.",
    "gone": "Images that are kept here and that the upstream no longer has.",
    "verified": "Stored images with a verified signature.",
    "unverified": "Stored images without one.",
}


class MirrorCollector(Collector):
    """`snapshots` is called when somebody scrapes."""

    def __init__(self, snapshots: Callable[[], Snapshots]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Nothing but `mirrorflow_mirror_status_known 0` while the status cannot be found."""
        known = GaugeMetricFamily("mirrorflow_mirror_status_known", "1: the series of entries are there.")
        try:
            snapshot = self._snapshots().look()
        except (MirrorflowError, OSError):
            known.add_metric([], 0)
            yield known
            return
        known.add_metric([], 1)
        yield known
        yield from _series(snapshot)


def _series(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    labels = ["registry"]
    for key, meaning in _COUNTS.items():
        family = GaugeMetricFamily(f"mirrorflow_entry_{key}", meaning, labels=labels)
        for entry in snapshot.entries:
            family.add_metric([entry.registry], snapshot.by_entry.get(entry.registry, Counter())[key])
        yield family
    complete = GaugeMetricFamily(
        "mirrorflow_entry_in_place", "1: the entry's last run was complete and is not overdue.", labels=labels
    )
    behind = GaugeMetricFamily(
        "mirrorflow_entry_lag_seconds",
        "How long ago the oldest image was known to be what the upstream has; +Inf: it never was.",
        labels=labels,
    )
    ended = GaugeMetricFamily(
        "mirrorflow_entry_last_run_ended", "When the last run ended, in seconds since 1970.", labels=labels
    )
    for entry in snapshot.entries:
        complete.add_metric([entry.registry], float(entry.in_place))
        if (known := snapshot.known.get(entry.registry)) is not None:
            behind.add_metric([entry.registry], max(0.0, snapshot.taken - known) if known else math.inf)
        if entry.ended is not None:
            ended.add_metric([entry.registry], entry.ended)
    yield from (complete, behind, ended, *_last_runs(snapshot))


def _last_runs(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    requests = GaugeMetricFamily(
        "mirrorflow_entry_last_run_requests",
        "Requests of the last run, by kind; those to a destination begin with its name.",
        labels=["registry", "kind"],
    )
    totals = {
        key: GaugeMetricFamily(f"mirrorflow_entry_last_run_{name}", meaning, labels=["registry"])
        for key, (name, meaning) in _TOTALS.items()
    }
    for entry in snapshot.entries:
        report: Any = entry.report
        for kind, count in requests_of(report).items():
            requests.add_metric([entry.registry, kind], count)
        for key, family in totals.items():
            if key in report.get("totals", {}):
                family.add_metric([entry.registry], report["totals"][key])
    yield from (requests, *totals.values())


_TOTALS = {
    "images": ("images", "Images that the rules wanted in the last run."),
    "inPlace": ("images_in_place", "Images that were in place when the last run ended."),
    "failed": ("images_failed", "Images that failed in the last run."),
    "copied": ("images_copied", "Images that the last run copied."),
    "bytesMoved": ("bytes_moved", "Bytes that the last run received from the upstream."),
}
