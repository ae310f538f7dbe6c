"""`mirrorflow serve --workers N`: processes on one port that count together and are replaced."""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.registry_server.store.images import tag_image
from tests.several_servers.programs import serving
from tests.support.command_line import mirrorflow

if TYPE_CHECKING:
    from pathlib import Path

COUNT = re.compile(
    r'^mirrorflow_http_requests_total\{method="GET",route="manifest",status="200"\} (\S+)$', re.MULTILINE
)


def _profile(folder: Path) -> Path:
    path = folder / "profile.yaml"
    path.write_text("storage: {rootDirectory: store}\nsync: {registries: []}\n")
    tag_image(Store.open(folder / "store").repository(RepositoryName("team/app")), "1", b"layer")
    return path


def _pull(url: str, times: int) -> None:
    """Each time with a connection of its own: any worker may take it."""
    retrying = httpx.HTTPTransport(retries=20)
    for _ in range(times):
        with httpx.Client(transport=retrying, timeout=60) as client:
            assert client.get(f"{url}/v2/team/app/manifests/1").status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_workers_share_a_port_and_their_counts_add_up_when_one_is_killed(tmp_path: Path) -> None:
    program, url = serving(_profile(tmp_path), "--workers", 3)
    with program:
        _pull(url, 30)
        first = program.children
        assert len(first) == 3
        os.kill(first[0], signal.SIGKILL)
        _pull(url, 30)
        found = COUNT.search(httpx.get(f"{url}/metrics").text)
        assert found is not None
        assert float(found[1]) == 60
        while len(program.children) < 3 or first[0] in program.children:
            _pull(url, 1)
        assert program.stop() == 0


@pytest.mark.parametrize("workers", ["0", "257", "many"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(tmp_path: Path, workers: str) -> None:
    done = mirrorflow("serve", _profile(tmp_path), "--workers", workers)
    assert done.returncode == 2
    assert "--workers" in done.stderr


def test_address_and_port_of_the_profile_can_be_replaced(tmp_path: Path) -> None:
    """So that servers on one host need no profile each."""
    path = _profile(tmp_path)
    path.write_text(path.read_text() + "http: {address: 192.0.2.1, port: 80}\n")
    program, url = serving(path, "--address", "127.0.0.1")
    with program:
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}/v2/").status_code == 200
