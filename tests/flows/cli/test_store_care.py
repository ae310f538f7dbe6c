"""`mirrorflow store …` as a user types it, and garbage collection on schedule."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from flows.entries import open_store
from flows.maintenance.garbage_collection import GcSchedule, pinned_digests
from profiles.loader import load_profile, parse_profile
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.maintenance.scrub import find_missing
from tests.registry_server.store.gc.collecting import age
from tests.registry_server.store.images import check, image, layer, put_image, record, tag_image
from tests.registry_server.store.maintenance.test_scrub import corrupt
from tests.support.command_line import mirrorflow
from tests.support.stored_files import file_of
from tests.tasks.runs import mirror, opened

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.store.store import Store
    from tests.support.registries import Registry

A, B = b"layer a", b"layer b"
DIGEST = image(B).descriptor().digest
PROFILE = f"""
storage: {{rootDirectory: store}}
sync:
  registries:
    - name: up
      urls: ['http://127.0.0.1:1']
      pollInterval: 1h
      content: [{{images: ['a@{DIGEST}', 'a:1']}}]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def profile(path: Path) -> Profile:
    return load_profile(path).profile


@pytest.fixture
def store(profile: Profile) -> Store:
    return open_store(profile)


def test_gc_says_what_goes_and_a_dry_run_what_would(store: Store, path: Path) -> None:
    tag_image(store.repository(RepositoryName("a")), "1", A)
    gone = put_image(store.repository(RepositoryName("b")), B)
    age(store)
    dry = mirrorflow("store", "gc", path, "--dry-run")
    assert dry.returncode == 0
    assert f"manifest: b@{gone.digest} ({gone.size} bytes): no tag needs it\n" in dry.stdout
    assert "garbage collection would remove: 0 tags, 1 manifest, 2 blobs to the trash" in dry.stdout
    assert store.repository(RepositoryName("b")).has_blob(gone.digest)
    done = mirrorflow("store", "gc", path, "--purge", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["manifests"], document["trashed"], document["purged"]) == (1, 2, 2)
    assert {each["kind"] for each in document["removals"]} == {"manifest", "marker", "blob"}
    assert check(store) == 1


def test_gc_keeps_the_digests_that_the_profile_lists(store: Store, path: Path, profile: Profile) -> None:
    assert pinned_digests(profile) == {"a": {DIGEST}}
    put_image(store.repository(RepositoryName("a")), B)
    age(store)
    assert mirrorflow("store", "gc", path).returncode == 0
    assert store.repository(RepositoryName("a")).has_blob(DIGEST)


def test_a_repository_that_cannot_be_read_is_told_with_the_exit_code(store: Store, path: Path) -> None:
    tag_image(store.repository(RepositoryName("a")), "1", A)
    (store.root / "repos/a/_r/tags/1").write_bytes(b"")
    done = mirrorflow("store", "gc", path)
    assert done.returncode == 1
    assert "error: a: not collected: a:1: the tag cannot be read" in done.stderr


def test_stats_are_for_people_and_for_programs(store: Store, path: Path) -> None:
    for name in ("a", "b/c"):
        tag_image(store.repository(RepositoryName(name)), "1", A)
    shown = mirrorflow("store", "stats", path).stdout
    assert "sharing saves" in shown
    assert "50%" in shown
    assert "b/c" in shown
    document = json.loads(mirrorflow("store", "stats", path, "--json").stdout)
    assert [each["name"] for each in document["repositories"]] == ["a", "b/c"]


def test_ls_lists_what_is_stored_and_where_it_came_from(store: Store, path: Path) -> None:
    assert "no tag in" in mirrorflow("store", "ls", path).stderr
    tag_image(store.repository(RepositoryName("a")), "1", A)
    tag_image(store.repository(RepositoryName("b/c")), "2", B)
    shown = mirrorflow("store", "ls", path)
    assert shown.returncode == 0
    assert "a:1" in shown.stdout
    assert "registry1:5000: library/nginx" in shown.stdout
    [listed] = json.loads(mirrorflow("store", "ls", path, "b/*", "--json").stdout)["tags"]
    assert (listed["image"], listed["digest"], listed["hidden"]) == ("b/c:2", DIGEST, False)
    assert "no tag in" in mirrorflow("store", "ls", path, "nothing").stderr
    refused = mirrorflow("store", "ls", path, "[")
    assert refused.returncode == 1
    assert "is not a pattern of repositories" in refused.stderr


def test_rm_removes_a_tag_that_undelete_restores(store: Store, path: Path) -> None:
    repository = store.repository(RepositoryName("a"))
    for tag in ("1", "2"):
        tag_image(repository, tag, A)
    done = mirrorflow("store", "rm", path, "a:1", "a:2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["removed a:1", "removed a:2"]
    [note] = done.stdout.splitlines()[2:]
    assert "a content rule takes a:1; the next run brings it back" in note
    assert repository.tag_records() == {}
    assert mirrorflow("store", "undelete", path, "a:2").returncode == 0
    assert list(repository.tag_records()) == ["2"]
    assert check(store) == 1


@pytest.mark.parametrize(
    ("image", "said"),
    [
        pytest.param("a:9", "the store has no a:9; `mirrorflow store ls PROFILE a` says", id="not there"),
        pytest.param(f"a@{DIGEST}", "names a digest", id="a digest"),
        pytest.param(f"a:{DIGEST.replace(':', '-')}.sig", "goes with that", id="a signature"),
        pytest.param("A:1", "is not a repository name", id="no name"),
    ],
)
def test_rm_removes_nothing_when_one_name_is_wrong(store: Store, path: Path, image: str, said: str) -> None:
    tag_image(store.repository(RepositoryName("a")), "1", A)
    done = mirrorflow("store", "rm", path, "a:1", image)
    assert done.returncode == 1
    assert said in done.stderr
    assert "a bug" not in done.stderr
    assert check(store) == 1


def test_an_export_is_imported_elsewhere(store: Store, path: Path, tmp_path: Path) -> None:
    tag_image(store.repository(RepositoryName("a")), "1", A)
    tar = tmp_path / "images.tar"
    done = mirrorflow("store", "export", path, "a:1", "--to", tar)
    assert done.returncode == 0, done.stderr
    other = tmp_path / "other.yaml"
    other.write_text(PROFILE.replace("rootDirectory: store", "rootDirectory: other"))
    done = mirrorflow("store", "import", other, tar)
    assert (done.returncode, done.stdout) == (0, "a:1\n")
    assert check(open_store(load_profile(other).profile)) == 1


def test_what_scrub_finds_corrupt_is_fetched_again(sample_upstream: Registry, tmp_path: Path) -> None:
    with opened(tmp_path, sample_upstream.url, {"prefix": "library/nginx"}) as run:
        mirror(run)
        store = run.store
    path = tmp_path / "profile.yaml"
    path.write_text(
        f"storage: {{rootDirectory: store}}\nsync: {{registries: [{{name: registry1, "
        f"urls: ['{sample_upstream.url}'], pollInterval: 1h, content: [{{prefix: library/nginx}}]}}]}}"
    )
    tags = check(store)
    assert mirrorflow("store", "scrub", path).returncode == 0
    nginx = store.repository(RepositoryName("library/nginx"))
    tag = nginx.tags()[0]
    found = nginx.find_manifest(tag)
    some = next(each for each in nginx.tag_records().values() if each.digest != found.descriptor.digest)
    blobs = [file_of(nginx, tag), file_of(nginx, some.digest)]
    layers = sorted((store.root / "blobs").glob("*/*/*"), key=lambda each: each.stat().st_size)
    for each in {*blobs, layers[-1]}:
        corrupt(each)
    seen = mirrorflow("store", "scrub", path, "--no-heal")
    assert seen.returncode == 1
    assert "is missing" in seen.stderr
    healed = mirrorflow("store", "scrub", path, "--json")
    assert healed.returncode == 0, healed.stderr
    assert len(json.loads(healed.stdout)["healed"]) == 3
    assert list(find_missing(store)) == []
    assert check(store) == tags


def test_what_nobody_can_bring_back_is_an_error(store: Store, path: Path) -> None:
    repository = store.repository(RepositoryName("a"))
    pushed = put_image(repository, A)
    repository.put_tag(Tag("1"), record(pushed))
    corrupt(file_of(repository, layer(A).digest))
    done = mirrorflow("store", "scrub", path)
    assert done.returncode == 1
    assert f"error: a:1: {layer(A).digest} is missing" in done.stderr


# On schedule.


def test_a_root_is_collected_when_its_interval_has_passed(store: Store, tmp_path: Path) -> None:
    text = PROFILE.replace("{rootDirectory: store}", "{rootDirectory: store, gcInterval: 1ms}")
    profile = parse_profile(text, tmp_path / "profile.yaml").profile
    put_image(store.repository(RepositoryName("b")), B)
    age(store)
    said: list[str] = []
    schedule = GcSchedule(store, lambda: profile, said.append)
    time.sleep(0.002)
    schedule.collect_due()
    assert "1 manifest," in said[0]
    assert not store.repository(RepositoryName("b")).has_blob(DIGEST)


def test_before_its_time_and_while_another_collects_nothing_happens(
    store: Store, profile: Profile, tmp_path: Path
) -> None:
    put_image(store.repository(RepositoryName("b")), B)
    age(store)
    said: list[str] = []
    GcSchedule(store, lambda: profile, said.append).collect_due()
    text = PROFILE.replace("{rootDirectory: store}", "{rootDirectory: store, gcInterval: 1ms}")
    soon = parse_profile(text, tmp_path / "profile.yaml").profile
    schedule = GcSchedule(store, lambda: soon, said.append)
    with store.claim("gc"):
        time.sleep(0.002)
        schedule.collect_due()
    assert said == []
    assert store.repository(RepositoryName("b")).has_blob(DIGEST)


def test_the_schedule_ends_when_it_is_told_to(store: Store, profile: Profile) -> None:
    schedule = GcSchedule(store, lambda: profile, lambda _: None)
    schedule.start()
    schedule.stop()
    assert os.listdir(store.root / "locks") == []  # noqa: PTH208 - a list to compare
