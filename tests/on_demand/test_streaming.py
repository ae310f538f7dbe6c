"""Layers are handed out while they arrive, and never end well with bytes that are not theirs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch
from registry_server.oci.reference import RepositoryName
from registry_server.store.spool.incoming_reader import open_incoming
from registry_server.store.store import Store
from tests.on_demand.mirrors import document, mirroring
from tests.support_misbehaving import Misbehaving, answers, misbehaving, well_behaved
from tests.tasks.runs import assert_complete, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.on_demand.mirrors import Mirror
    from tests.support_misbehaving import Exchange

LAYER = b"".join(number.to_bytes(4, "big") for number in range(700_000))
HALF = 1_500_000


@dataclass
class Gate:
    """A blob in two parts; the second one comes when the test says so."""

    content: bytes
    half: int = HALF
    open: threading.Event = field(default_factory=threading.Event)

    def __call__(self, exchange: Exchange) -> None:
        exchange.answer(200, b"", {"Content-Length": str(len(self.content))})
        exchange.write(self.content[: self.half])
        self.open.wait(20)
        exchange.write(self.content[self.half :])


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def layer_path(upstream: Misbehaving, gate: Gate | None = None) -> str:
    image = upstream.add_image("library/big", "1", layers=(LAYER,))
    path = f"/v2/library/big/blobs/{image.layers[0].digest}"
    if gate is not None:
        upstream.on(path, gate, well_behaved)
    return path


def begun(mirror: Mirror) -> None:
    assert mirror.client.get("/v2/library/big/manifests/1").status_code == 200


def test_bytes_are_there_before_upstream_has_sent_the_rest(tmp_path: Path, upstream: Misbehaving) -> None:
    gate = Gate(LAYER)
    path = layer_path(upstream, gate)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        begun(mirror)
        with mirror.client.stream("GET", path) as answer:
            assert answer.headers["Content-Length"] == str(len(LAYER))
            chunks = answer.iter_bytes(HALF // 2)
            first = next(chunks)
            assert visible(mirror.store) == []
            gate.open.set()
            assert first + b"".join(chunks) == LAYER
        mirror.work.wait()
        assert_complete(mirror.store, "library/big:1")


def test_late_joiners_and_ranges_follow_the_same_arrival(tmp_path: Path, upstream: Misbehaving) -> None:
    gate = Gate(LAYER)
    path = layer_path(upstream, gate)
    ranges = [None, "bytes=0-99", "bytes=1499990-1500010", "bytes=-5", f"bytes={len(LAYER) - 1}-"]
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror, ThreadPoolExecutor(8) as clients:
        begun(mirror)
        asked = [
            clients.submit(httpx.get, mirror.url + path, headers={"Range": each} if each else {}, timeout=20)
            for each in ranges
        ]
        gate.open.set()
        got = [each.result() for each in asked]
    assert [each.status_code for each in got] == [200, 206, 206, 206, 206]
    assert [each.content for each in got] == [
        LAYER,
        LAYER[:100],
        LAYER[1499990:1500011],
        LAYER[-5:],
        LAYER[-1:],
    ]
    assert len(upstream.requests("GET", "/blobs/" + path.rpartition("/")[2])) == 1


def test_a_wrong_digest_is_a_broken_connection(tmp_path: Path, upstream: Misbehaving) -> None:
    """Invariant 2."""
    gate = Gate(LAYER[:-1] + b"!")
    path = layer_path(upstream, gate)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        begun(mirror)
        with mirror.client.stream("GET", path) as answer:
            assert answer.status_code == 200
            gate.open.set()
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()
            assert answer.num_bytes_downloaded < len(LAYER)
        mirror.work.wait()
        assert visible(mirror.store) == []
        again = mirror.client.get(path)  # upstream has the right bytes by now
        assert again.content == LAYER


def test_a_range_is_not_complete_either_before_the_whole_is_verified(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    gate = Gate(LAYER[:-1] + b"!")
    path = layer_path(upstream, gate)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        begun(mirror)
        with mirror.client.stream("GET", path, headers={"Range": "bytes=0-9"}) as answer:
            gate.open.set()
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()


def test_an_upstream_that_refuses_the_blob_is_an_answer_and_not_a_broken_connection(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    path = layer_path(upstream)
    upstream.on(path, answers(500, b"no"))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        begun(mirror)
        refused = mirror.client.get(path)
        assert refused.status_code == 502
        assert "500" in refused.json()["errors"][0]["detail"]["cause"]


def test_head_of_a_blob_that_arrives_says_its_size(tmp_path: Path, upstream: Misbehaving) -> None:
    gate = Gate(LAYER)
    path = layer_path(upstream, gate)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        begun(mirror)
        head = mirror.client.head(path)
        gate.open.set()
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(LAYER)))


def test_who_follows_a_file_is_not_led_on_into_other_bytes(tmp_path: Path) -> None:
    """A writer that begins anew takes another file: the bytes before and after may not fit together."""
    repository = Store.open(tmp_path, durability="none").repository(RepositoryName("a"))
    from registry_server.oci.descriptor import Descriptor

    descriptor = Descriptor("", Digest.of(LAYER), len(LAYER))
    with repository.receive_blob(descriptor) as incoming:
        incoming.write(b"something else")
        before = open_incoming(repository, descriptor.digest)
        assert before is not None
        assert before.is_being_written()
        incoming.restart()
        assert not before.state().named
        incoming.write(LAYER)
        after = open_incoming(repository, descriptor.digest)
        assert after is not None
        assert after.is_being_written()
        assert not after.state().verified
        incoming.commit()
        assert after.state().verified
    assert not after.is_being_written()
    before.close()
    after.close()
    with repository.receive_blob(descriptor) as incoming:
        assert incoming.complete
    other = Descriptor("", Digest.of(b"x"), 5)
    with repository.receive_blob(other) as incoming:
        incoming.write(b"12345")
        file = open_incoming(repository, other.digest)
        assert file is not None
        with pytest.raises(DigestMismatch):
            incoming.commit()
    assert not file.state().named
    file.close()
