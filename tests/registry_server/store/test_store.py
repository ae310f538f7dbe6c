"""Opening stores: formats, several roots, roles, reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName
from registry_server.store.errors import StoreDamaged, StoreError, StoreLocked, StoreMissing, StoreTooNew
from registry_server.store.filesystem.process_identity import ProcessIdentity
from registry_server.store.mirror_state.run_reports import KEPT
from registry_server.store.store import Store
from tests.registry_server.store.images import FOLDER_ONLY, layer, put_image, tag_image
from tests.support.stored_files import objects_folder

if TYPE_CHECKING:
    from pathlib import Path

LAYER = b"layer"


def test_a_store_keeps_its_identity(tmp_path: Path) -> None:
    first = Store.open(tmp_path / "deep" / "store")
    assert Store.open(tmp_path / "deep" / "store", create=False).uuid == first.uuid
    assert Store.open(tmp_path / "other").uuid != first.uuid
    assert first.root.stat().st_mode & 0o777 == 0o700


def test_a_store_that_must_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="no store in"):
        Store.open(tmp_path / "store", create=False)
    assert not (tmp_path / "store").exists()


def test_threads_that_open_a_new_store_at_once_agree_on_it(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    found: list[str] = []

    def open_it() -> None:
        start.wait()
        found.append(Store.open(tmp_path / "store").uuid)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_store_of_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    path = store.root / "format.json"
    path.write_text(json.dumps({"version": 2, "uuid": "x", "new": True}))
    with pytest.raises(StoreTooNew, match="format 2, and this mirrorflow knows up to 1"):
        Store.open(tmp_path / "store")
    assert json.loads(path.read_text())["version"] == 2


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"version": "x", "uuid": ""}'])
def test_a_format_file_that_cannot_be_read_is_refused_with_what_to_write(
    tmp_path: Path, content: str
) -> None:
    Store.open(tmp_path / "store")
    (tmp_path / "store" / "format.json").write_text(content)
    with pytest.raises(StoreDamaged, match="write"):
        Store.open(tmp_path / "store")


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    with pytest.raises(StoreError):
        Store.open(tmp_path / "store")


def test_leftovers_of_killed_writers_go_when_they_are_old(tmp_path: Path) -> None:
    staging = Store.open(tmp_path / "store").root / "staging"
    for name in ("old", "new"):
        (staging / name).write_text("x")
    os.utime(staging / "old", (1, 1))
    Store.open(tmp_path / "store")
    assert [path.name for path in staging.iterdir()] == ["new"]


def test_where_a_volume_went_away_nothing_is_begun_anew(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    tag_image(store.repository(RepositoryName("a")), "1", LAYER)
    store.root.rename(tmp_path / "unmounted")
    store.root.mkdir()
    with pytest.raises(StoreMissing, match="check that its volume is mounted"):
        tag_image(store.repository(RepositoryName("b")), "1", LAYER)
    assert list(store.root.iterdir()) == []


# subPaths.


def test_a_subpath_is_chosen_by_the_first_part_of_the_name_and_holds_the_full_name(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "main", subpaths={"/kube-proxy": tmp_path / "sub"})
    names = ["kube-proxy", "kube-proxy/inner", "kube-proxy2", "other/kube-proxy"]
    for name in names:
        put_image(store.repository(RepositoryName(name)), LAYER)
    assert store.repositories() == sorted(names)
    main, sub = (Store.open(tmp_path / folder, create=False) for folder in ("main", "sub"))
    assert sub.repositories() == ["kube-proxy", "kube-proxy/inner"]
    assert main.repositories() == ["kube-proxy2", "other/kube-proxy"]


def test_roots_share_no_content(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "main", subpaths={"/a": tmp_path / "sub"})
    store.repository(RepositoryName("b")).put_blob(layer(LAYER), LAYER)
    assert not store.repository(RepositoryName("a/b")).adopt_blob(layer(LAYER).digest)


def test_two_subpaths_may_share_a_root(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "main", subpaths={"a": tmp_path / "sub", "/b/": tmp_path / "sub"})
    store.repository(RepositoryName("a")).put_blob(layer(LAYER), LAYER)
    assert store.repository(RepositoryName("b/c")).adopt_blob(layer(LAYER).digest)


def test_what_another_profile_left_in_a_root_is_not_listed_where_it_cannot_be_read(tmp_path: Path) -> None:
    put_image(Store.open(tmp_path / "main").repository(RepositoryName("a")))
    assert Store.open(tmp_path / "main", subpaths={"/a": tmp_path / "sub"}).repositories() == []


@pytest.mark.parametrize("key", ["", "/", "/a/b"])
def test_a_subpath_that_can_never_be_chosen_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreError, match="can never be chosen"):
        Store.open(tmp_path / "main", subpaths={key: tmp_path / "sub"})


# Roles.


def test_a_role_is_held_once(store: Store) -> None:
    assert not store.is_claimed("up")
    with store.claim("up"):
        assert store.is_claimed("up")
        with (
            pytest.raises(StoreLocked, match=f"process {os.getpid()} on .* 'up'") as caught,
            store.claim("up"),
        ):
            pass
        assert caught.value.holder == ProcessIdentity.current()
        assert store.claimant("up") == ProcessIdentity.current()
        with store.claim("gc"):
            pass
    assert store.claimant("up") is None
    with store.claim("up"):
        pass


CLAIM = """
import sys, pathlib
from registry_server.store.store import Store
with Store.open(pathlib.Path(sys.argv[1])).claim("up"):
    print("held", flush=True)
    sys.stdin.read()
"""


@FOLDER_ONLY
def test_a_role_ends_with_its_process(store: Store) -> None:
    command = [sys.executable, "-c", CLAIM, str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreLocked) as caught, store.claim("up"):
            pass
        assert caught.value.holder is not None
        assert caught.value.holder.pid == holder.pid
        holder.kill()
    with store.claim("up"):
        pass


@pytest.mark.parametrize("role", ["../../evil", "a/b", ".."])
def test_a_role_is_no_path(store: Store, role: str) -> None:
    if role == "..":
        with pytest.raises(StoreError), store.claim(role):
            pass
        return
    with store.claim(role):
        assert len(list((store.root / "locks").iterdir())) == 1


# Reports.


def test_reports_come_back_oldest_first(store: Store) -> None:
    for number, registry in enumerate(["a", "b", "a"]):
        store.reports.save(registry, {"number": number, "text": "é\ud800"})
    assert [each["number"] for each in store.reports.load_all("a")] == [0, 2]
    assert [each["number"] for each in store.reports.load_all()] == [0, 1, 2]
    assert store.reports.load_all("absent") == []


def test_the_oldest_reports_go(store: Store) -> None:
    for number in range(KEPT + 3):
        store.reports.save("a", {"number": number})
    assert [each["number"] for each in store.reports.load_all("a")] == list(range(3, KEPT + 3))


def test_runs_for_some_images_do_not_displace_the_last_whole_run(store: Store) -> None:
    store.reports.save("a", {"number": -1, "only": []})
    for number in range(KEPT + 3):
        store.reports.save("a", {"number": number, "only": ["app:1"]})
    assert [each["number"] for each in store.reports.load_all("a")] == [-1, *range(3, KEPT + 3)]


@pytest.mark.parametrize("name", ["registry1:5000/library", "../../evil", "a b", "é"])
def test_the_name_of_a_registry_entry_is_no_path(store: Store, name: str) -> None:
    store.reports.save(name, {"name": name})
    assert len(list((objects_folder(store) / "reports").glob("*/*.json"))) == 1
    assert store.reports.load_all(name) == [{"name": name}]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_reports_need_a_name(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="give the entry a `name`"):
        store.reports.save(name, {})


def test_a_damaged_report_does_not_hide_the_others(store: Store) -> None:
    store.reports.save("a", {})
    (saved,) = store.roots[0].objects.names("reports/a").objects
    store.roots[0].objects.put(f"reports/a/{saved}", b"not json")
    store.reports.save("a", {"good": True})
    assert store.reports.load_all() == [{"good": True}]
