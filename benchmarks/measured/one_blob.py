"""One large blob into the store, one stream, over http and over TLS: near a bare socket, before its peers.

Upstream: nginx over the pool of a store, which costs the machine the least.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness.ours import environment
from benchmarks.harness.peers.nginx import nginx
from benchmarks.harness.processes import run
from benchmarks.harness.profile import write_profile
from benchmarks.harness.report.rows import AtLeast, AtMost, Better, Row, Sample
from benchmarks.harness.rounds import alternately
from benchmarks.harness.upstreams.content import image, put
from benchmarks.harness.upstreams.tls import certificate
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.harness.peers.servers import Server
    from benchmarks.harness.place import Place
    from registry_server.oci.descriptor import Descriptor

UPSTREAM = "nginx"
_NAME = "one/blob"
_PEERS: Final = ("skopeo", "crane", "oras")


@dataclass(frozen=True, slots=True)
class Size:
    bytes: int
    rounds: int
    within: float = math.inf  # seconds, for all rounds


FULL = Size(bytes=2**30, rounds=3, within=35)
SMALL = Size(bytes=6_000_000, rounds=1)


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of the copy alone, of the whole process, CPU seconds of the copy, bytes of memory."""

    copy: float
    whole: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Result:
    """By scheme, by contender."""

    size: Size
    rounds: Mapping[str, Mapping[str, tuple[Round, ...]]]

    def rows(self) -> list[Row]:
        return [row for scheme in self.rounds for row in self._of(scheme)]

    def _of(self, scheme: str) -> list[Row]:
        def speed(contender: str, *, whole: bool = False) -> Sample:
            turns = self.rounds[scheme][contender]
            return Sample.of(self.size.bytes / 1e6 / (each.whole if whole else each.copy) for each in turns)

        def cpu(contender: str) -> Sample:
            return Sample.of(each.cpu for each in self.rounds[scheme][contender])

        what = f"{self.size.bytes / 2**20:.0f} MiB over {scheme}"
        limit, more = {"bare socket, sha256, write": speed("raw")}, Better.MORE
        peak = Sample.of(each.peak / 1e6 for each in self.rounds[scheme]["ours"])
        whole = speed("ours", whole=True)
        peers = {name: speed(name) if name in self.rounds[scheme] else None for name in _PEERS}
        near = AtLeast(0.95 if scheme == "https" else 1)
        return [
            Row("one_blob", what, "MB/s", speed("ours"), peers, more, AtLeast(1.25)),
            Row("one_blob", f"{what}, beside a socket", "MB/s", speed("ours"), limit, more, near),
            Row("one_blob", f"{what}, with Python's start", "MB/s", whole, peers, more),
            Row("one_blob", f"{what}, CPU", "s", cpu("ours"), {name: cpu("raw") for name in limit}),
            Row("one_blob", f"{what}, peak memory", "MB", peak, budget=AtMost(300, "MB")),
        ]


def measure(place: Place, size: Size) -> Result:
    skopeo, server = place.program("skopeo"), place.program("nginx")
    folder = place.fresh("one_blob")
    store = Store.open(folder / "upstream", durability="none")
    blob = put(store, _NAME, "one", size.bytes)
    tags = [(_NAME, "latest", image(store, _NAME, "one", [blob], "latest").digest)]
    cert, key, trusted = certificate(folder)
    found = {}
    for scheme, tls in (("http", None), ("https", (cert, key))):
        with nginx(server, folder, store.root, tags=tags, tls=tls) as upstream:
            turns = _Turns(folder, upstream, blob, trusted, skopeo)
            contenders = {"raw": turns.raw, "ours": turns.ours, "skopeo": turns.skopeo}
            others = place.optional("crane", "oras")
            contenders |= {name: partial(turns.other, name, path) for name, path in others.items()}
            done = alternately(size.rounds, contenders, within=size.within)
            found[scheme] = {name: tuple(each) for name, each in done.items()}
    shutil.rmtree(folder)
    return Result(size, found)


@dataclass(frozen=True, slots=True)
class _Turns:
    folder: Path
    upstream: Server
    blob: Descriptor
    trusted: Path
    program: str

    def raw(self) -> Round:
        file = self.folder / "raw"
        path = f"/v2/{_NAME}/blobs/{self.blob.digest}"
        authority = [str(self.trusted / "ca.crt")] if self.upstream.scheme == "https" else []
        found = _copy("raw", self.upstream.host, path, str(file), *authority)
        file.unlink()
        return found

    def ours(self) -> Round:
        profile = write_profile(
            self.folder, self.upstream.url, self.folder / "mirror", certDir=str(self.trusted)
        )
        found = _copy("ours", str(profile), _NAME, self.blob.digest, str(self.blob.size))
        shutil.rmtree(self.folder / "mirror")
        return found

    def skopeo(self) -> Round:
        target = self.folder / "skopeo"
        secure = ["--src-cert-dir", str(self.trusted)] if self.upstream.scheme == "https" else []
        options = secure or ["--src-tls-verify=false"]
        source = f"docker://{self.upstream.host}/{_NAME}:latest"
        usage = run([self.program, "copy", *options, source, f"dir:{target}"]).usage
        shutil.rmtree(target)
        return Round(usage.wall, usage.wall, usage.cpu, usage.peak)

    def other(self, name: str, program: str) -> Round:
        target = self.folder / name
        usage = run(_other(name, program, self, target)).usage
        target.unlink()
        return Round(usage.wall, usage.wall, usage.cpu, usage.peak)


def _other(name: str, program: str, turns: _Turns, target: Path) -> list[str]:
    place, secure = f"{turns.upstream.host}/{_NAME}", turns.upstream.scheme == "https"
    if name == "crane":
        return [program, "pull", "--insecure", f"{place}:latest", str(target)]
    trust = ["--ca-file", str(turns.trusted / "ca.crt")] if secure else ["--plain-http"]
    return [program, "blob", "fetch", *trust, "--output", str(target), f"{place}@{turns.blob.digest}"]


def _copy(*arguments: str) -> Round:
    done = run(
        [sys.executable, "-m", "benchmarks.harness.programs.copies", *arguments], environment=environment()
    )
    found = json.loads(done.output)
    return Round(found["wall"], done.usage.wall, found["cpu"], done.usage.peak)
