"""Steps in processes of their own: what these are told, what they share, how they fail."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flows.direct_run import run_direct
from flows.entries import open_store
from flows.processes import fingerprint_of, share_of, where_steps_run
from profiles.loader import load_profile
from tasks.context.mirror_run import open_run
from tests.support_misbehaving import Misbehaving, well_behaved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiles.model.profile import Profile
    from tests.support_misbehaving import Exchange


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        yield found


def write(folder: Path, *urls: str, sync: dict[str, Any] | None = None, **more: Any) -> Path:
    entry = {"name": "up", "urls": list(urls), "content": [{"prefix": "**"}], **more.pop("entry", {})}
    document = {
        "storage": {"rootDirectory": "store"},
        "sync": {"processes": 2, "registries": [entry], **(sync or {})},
        **more,
    }
    path = folder / "profile.json"
    path.write_text(json.dumps(document))
    return path


def read(folder: Path, *urls: str, **more: Any) -> Profile:
    return load_profile(write(folder, *urls, **more)).profile


def test_an_entry_that_also_names_this_mirror_runs(tmp_path: Path, upstream: Misbehaving) -> None:
    """The members of a ring have one profile; each leaves itself out."""
    upstream.add_image("app", "1")
    own = {"address": "127.0.0.1", "port": "5999"}
    path = write(tmp_path, "http://127.0.0.1:5999", f"http://{upstream.host}", http=own)
    assert run_direct(path, "up") == ("COMPLETED", "1 of 1 images")


def test_processes_send_no_more_requests_at_once_than_the_entry_allows(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """The first one waits for a second one, until the slower process has come up as well."""
    lock, seen, together = threading.Lock(), 0, threading.Event()

    def counts(exchange: Exchange) -> None:
        nonlocal seen
        with lock:
            seen += 1
            first = seen == 1
        if first:
            together.wait(3)
            with lock:
                seen = -10
        elif seen > 0:
            together.set()
        well_behaved(exchange)

    for name in ("one", "two", "three"):
        upstream.add_image(name, "1", (name.encode(),))
        upstream.on(f"/v2/{name}/manifests/1", counts)
    path = write(tmp_path, f"http://{upstream.host}", entry={"reqConcurrent": 1})
    assert run_direct(path, "up") == ("COMPLETED", "3 of 3 images")
    assert not together.is_set()


def test_processes_share_every_limit(tmp_path: Path) -> None:
    entry = {"reqConcurrent": 9, "reqPerSec": 10, "bytesPerSec": 1}
    profile = read(tmp_path, "https://a.example", entry=entry, sync={"bytesPerSec": 1000})
    profile, found = share_of(profile, profile.sync.registries[0], 4)
    assert (found.req_concurrent, found.req_per_sec, found.bytes_per_sec) == (2, 2.5, 1)
    assert profile.sync.bytes_per_sec == 250


OTHER = {"name": "other", "urls": ["https://b.example"], "content": [{"prefix": "**"}]}


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        pytest.param({"entry": {"maxRetries": 7, "retryDelay": "1s"}}, False, id="a key of the entry"),
        pytest.param({"verify": {"recordVerdicts": True}}, False, id="policies"),
        pytest.param({"sync": {"bytesPerSec": 1000}}, False, id="a key of sync"),
        pytest.param({"storage": {"rootDirectory": "elsewhere"}}, False, id="the store"),
        pytest.param({}, True, id="nothing"),
    ],
)
def test_the_fingerprint_is_of_all_that_a_run_obeys(
    tmp_path: Path,
    change: dict[str, Any],
    equal: bool,  # noqa: FBT001 - a column of the table
) -> None:
    before = fingerprint_of(read(tmp_path, "https://a.example"), "up")
    assert (fingerprint_of(read(tmp_path, "https://a.example", **change), "up") == before) is equal


def test_another_entry_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path, "https://a.example")
    before = fingerprint_of(load_profile(path).profile, "up")
    document = json.loads(path.read_text())
    document["sync"]["registries"].append(OTHER)
    path.write_text(json.dumps(document))
    assert fingerprint_of(load_profile(path).profile, "up") == before


def test_a_profile_that_changes_while_a_run_begins_fails_its_steps_with_that_reason(tmp_path: Path) -> None:
    """A policy that the run has and its processes have not would let content in unjudged."""
    path = write(tmp_path, "https://a.example", verify={"recordVerdicts": True})
    profile = load_profile(path).profile
    write(tmp_path, "https://a.example")
    with running(profile, path) as call:
        said = call("list_catalog", [], None)
    assert str(said.error) == f"{path}: changed while a run of up began; start it again"
    assert said.value.problem == str(said.error)


@contextmanager
def running(profile: Profile, path: Path) -> Iterator[Any]:
    with (
        open_run(profile, profile.sync.registries[0], open_store(profile)) as run,
        where_steps_run(run, profile, path) as call,
    ):
        yield call
