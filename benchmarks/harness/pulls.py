"""Clients that pull: what they got, and how long they waited for it."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from registry_server.oci.media_types import ACCEPT

if TYPE_CHECKING:
    from collections.abc import Sequence

_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Got:
    """Seconds to the first byte of the body and to its last; the sha256 of the body."""

    first: float
    whole: float
    digest: str
    body: bytes = b""


def get(host: str, path: str, *, keep: bool = False) -> Got:
    """One GET over a connection of its own; `keep` the body. Raises `AssertionError` when refused."""
    connection = HTTPConnection(host, timeout=120)
    began = time.perf_counter()
    connection.request("GET", path, headers={"Accept": ACCEPT})
    answer = connection.getresponse()
    assert answer.status == 200, (answer.status, path, answer.read(500))
    hasher, first, kept = hashlib.sha256(), 0.0, bytearray()
    buffer = memoryview(bytearray(_PIECE))
    piece: bytes | memoryview = answer.read(1)
    first = time.perf_counter() - began
    while piece:
        hasher.update(piece)
        kept += piece if keep else b""
        piece = buffer[: answer.readinto(buffer)]
    connection.close()
    return Got(first, time.perf_counter() - began, f"sha256:{hasher.hexdigest()}", bytes(kept))


def manifest(host: str, repository: str, reference: str) -> Got:
    return get(host, f"/v2/{repository}/manifests/{reference}", keep=True)


def blob(host: str, repository: str, digest: str) -> Got:
    return get(host, f"/v2/{repository}/blobs/{digest}")


def pull(host: str, repository: str, tag: str) -> bool:
    """A whole image as a client pulls it; whether every digest was right."""
    found = manifest(host, repository, tag)
    document = json.loads(found.body)
    wanted = [document["config"]["digest"], *(each["digest"] for each in document["layers"])]
    with ThreadPoolExecutor(3) as threads:  # as docker does
        got = list(threads.map(lambda digest: blob(host, repository, digest).digest, wanted))
    return got == wanted


def all_at_once(number: int, host: str, repository: str, tag: str) -> tuple[int, float]:
    """`number` clients pull the same image; how many got it right, and the seconds until the last had it."""
    began = time.perf_counter()
    with ThreadPoolExecutor(number) as clients:
        right = sum(clients.map(lambda _: pull(host, repository, tag), range(number)))
    return right, time.perf_counter() - began


def wait_for_image(host: str, repository: str, tag: str) -> float:
    """Seconds until a client has every byte. It hashes none: that is not the server's work."""
    began = time.perf_counter()
    document = json.loads(manifest(host, repository, tag).body)
    wanted = [(each["digest"], each["size"]) for each in (document["config"], *document["layers"])]
    with ThreadPoolExecutor(3) as threads:  # as docker does
        got = list(threads.map(lambda each: _drain(host, f"/v2/{repository}/blobs/{each[0]}"), wanted))
    assert got == [size for _, size in wanted], (got, wanted)
    return time.perf_counter() - began


def _drain(host: str, path: str) -> int:
    connection = HTTPConnection(host, timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, (answer.status, path, answer.read(500))
    buffer, length = memoryview(bytearray(_PIECE)), 0
    while got := answer.readinto(buffer):
        length += got
    connection.close()
    return length


def manifests_at_once(host: str, repositories: Sequence[str], tag: str) -> list[float]:
    """The seconds that each of different images takes when all are asked for at the same time."""
    with ThreadPoolExecutor(len(repositories)) as clients:
        return [got.whole for got in clients.map(lambda name: manifest(host, name, tag), repositories)]
