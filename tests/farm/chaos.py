"""Runs on a farm while its hosts die: what has to hold at every moment, and what at the end."""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx

from tests.farm.farm import Farm, Host, await_ready, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)


class Incomplete(AssertionError):
    """A tag that a server shows, and of which something is missing or wrong."""


@dataclass
class Runs:
    """The flow runs of the farm's deployments, by the Prefect API."""

    farm: Farm
    killed: list[float] = field(default_factory=list)
    """When workers were killed, in seconds since 1970."""

    def _ask(self, path: str, body: Any) -> Any:
        return httpx.post(f"{self.farm.prefect_url}/{path}", json=body, timeout=60).raise_for_status().json()

    def deployments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("deployments/filter", {})
        return [each for each in found if each["work_pool_name"]]

    def unfinished(self) -> list[dict[str, Any]]:
        wanted = {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING"]}}}
        found: list[dict[str, Any]] = self._ask("flow_runs/filter", {"flow_runs": wanted})
        return found

    def start(self) -> list[str]:
        """A run of each deployment that has none."""
        busy = {each["deployment_id"] for each in self.unfinished()}
        free = [each["id"] for each in self.deployments() if each["id"] not in busy]
        return [self._ask(f"deployments/{each}/create_flow_run", {})["id"] for each in free]

    def await_running(self, seconds: float = 60) -> None:
        """Until each run that is left is carried out by a worker, which takes a moment to start."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if all(each["state_type"] == "RUNNING" for each in self.unfinished()):
                return
            time.sleep(0.2)

    def crash(self, host: Host) -> None:
        """What the automation of `deploy` does a minute later, once two heartbeats are missing."""
        for run in self.unfinished():
            if run["state_type"] in ("RUNNING", "PENDING") and not _is_alive(run, self.farm, host):
                state = {"type": "CRASHED", "message": f"{host.name} died"}
                self._ask(f"flow_runs/{run['id']}/set_state", {"state": state, "force": True})

    def wait(self, seconds: float = 900) -> None:
        """Until no run is left."""
        end = time.monotonic() + seconds
        while left := self.unfinished():
            assert time.monotonic() < end, [(each["name"], each["state_name"]) for each in left]
            time.sleep(0.5)

    def ended(self) -> Counter[str]:
        found = self._ask("flow_runs/filter", {"limit": 200})
        return Counter(each["state_name"] for each in found if each["state_type"] in _ENDED)


def _is_alive(run: dict[str, Any], farm: Farm, dead: Host) -> bool:
    """Whether another worker runs it: each says in its log which runs it has taken.

    Several workers try to take a run, and those that come too late say so.
    """
    others = (each.log for each in farm.workers if each is not dead and each.is_up)
    too_late = f"Aborted submission of flow run '{run['id']}'"
    return any(f"submitting flow run '{run['id']}'" in log and too_late not in log for log in others)


def kill_hosts(farm: Farm, kills: int, seed: int, say: Callable[[str], None] = print) -> Runs:
    """Kill hosts, one after the other, at random moments of runs, and start each again.

    After each kill everything that a server shows is whole. Raises `Incomplete`.
    """
    chance, runs = random.Random(seed), Runs(farm)  # noqa: S311 - repeatable
    for number in range(kills):
        runs.start()
        runs.await_running()
        time.sleep(chance.uniform(0.2, 5.0))
        victim = chance.choice(farm.hosts)
        victim.kill()
        if victim in farm.workers:
            runs.killed.append(time.time())
        other = _other_server(farm, victim)
        checked = check_visible(farm, other, sample=chance, at_most=10)
        victim.start()
        if victim in farm.workers:
            runs.crash(victim)
        else:
            await_ready(farm, farm.servers.index(victim))
        say(f"kill {number + 1} of {kills}: {victim.name}; {checked} images looked at were whole")
    runs.wait()
    return runs


def finish(farm: Farm, runs: Runs, rounds: int = 5) -> None:
    """Run until a server shows every image. Raises `Incomplete` after so many rounds."""
    shown = 0
    for _ in range(rounds):
        runs.start()
        runs.wait()
        shown = sum(map(len, visible(farm, 0).values()))
        if shown == farm.images:
            return
    raise Incomplete(f"{shown} of {farm.images} images after {rounds} undisturbed runs: {runs.ended()}")


def _other_server(farm: Farm, victim: Host) -> int:
    return next(number for number, each in enumerate(farm.servers) if each is not victim)


def check_visible(farm: Farm, number: int, *, sample: random.Random | None = None, at_most: int = 0) -> int:
    """Pull what a server shows, all of it or a sample; how many images. Raises `Incomplete`."""
    names = [f"{name} {tag}" for name, tags in visible(farm, number).items() for tag in tags]
    if sample is not None:
        names = sample.sample(names, min(at_most, len(names)))
    seen: set[str] = set()
    with farm.client(number) as client:
        for each in names:
            name, _, tag = each.partition(" ")
            pull(client, name, tag, seen)
    return len(names)


def pull(client: httpx.Client, name: str, reference: str, seen: set[str]) -> None:
    """A manifest and everything below it. Raises `Incomplete`."""
    answer = client.get(f"/v2/{name}/manifests/{reference}", headers={"Accept": _MANIFESTS})
    if answer.status_code != 200:
        raise Incomplete(f"{name}:{reference}: {answer.status_code} {answer.text[:300]}")
    body = answer.json()
    for child in body.get("manifests", ()):
        pull(client, name, child["digest"], seen)
    for blob in (*filter(None, [body.get("config")]), *body.get("layers", ())):
        digest = blob["digest"]
        if digest not in seen:
            seen.add(digest)
            _pull_blob(client, name, digest)


def _pull_blob(client: httpx.Client, name: str, digest: str) -> None:
    hasher = hashlib.sha256()
    with (
        suppress(httpx.HTTPError),
        client.stream("GET", f"/v2/{name}/blobs/{digest}", follow_redirects=True) as found,
    ):
        if found.status_code == 200:
            for piece in found.iter_raw():
                hasher.update(piece)
    if f"sha256:{hasher.hexdigest()}" != digest:
        raise Incomplete(f"{name}@{digest}: wrong bytes, or none")


def fetched(farm: Farm) -> Counter[str]:
    """How often each blob was asked for upstream."""
    return Counter(digest for digest, _ in _blob_requests(farm))


def asked_again(farm: Farm, runs: Runs) -> Counter[str]:
    """What was between two requests for a blob: a kill of a worker, or another run asked."""
    found, last = Counter[str](), dict[str, dict[str, Any]]()
    for digest, request in sorted(_blob_requests(farm), key=lambda each: _began(each[1])):
        before = last.get(digest)
        last[digest] = request
        if before is not None:
            found[_what_was_between(before, request, runs)] += 1
    return found


def _what_was_between(before: dict[str, Any], request: dict[str, Any], runs: Runs) -> str:
    began, again = _began(before), _began(request)
    killed = next((at for at in runs.killed if began < at < again), None)
    if killed is None:
        return f"{again - began:.2f} s after the first time, by another run"
    how = "whole" if before["complete"] else "broken off"
    return f"a worker was killed {killed - began - before['seconds']:.2f} s after the answer, which was {how}"


def _began(request: dict[str, Any]) -> float:
    return datetime.fromisoformat(request["time"]).timestamp()


def _blob_requests(farm: Farm) -> Iterator[tuple[str, dict[str, Any]]]:
    for request in farm.upstream.requests.all():
        if request["method"] == "GET" and request["kind"] == "blob":
            yield request["target"].rpartition("/")[2], request
