"""`cache`: what came on demand goes again, least recently pulled first; nothing else does."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from flows.demo.sample_images import ImageMaker, layer
from flows.entries import open_store
from flows.maintenance.garbage_collection import collect_garbage
from profiles.loader import parse_profile
from profiles.model.cache import Cache
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import Origin, TagRecord, tag_from_json, tag_to_json
from tasks.on_demand.eviction import Cached, doomed, evict
from tests.on_demand.mirrors import document, minding, mirroring
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.runs import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.store.gc.gc_report import Removal
    from registry_server.store.store import Store

NAME = RepositoryName("library/nginx")
DAY = 86400.0
A, B, C = (Digest.of(text) for text in (b"a", b"b", b"c"))


def cached(tag: str, days: float, *parts: Digest) -> Cached:
    """Pulled so many days ago; each part has 100 bytes."""
    return Cached(NAME, Tag(tag), Digest.of(tag.encode()), -days * DAY, {("", part): 100 for part in parts})


@pytest.mark.parametrize(
    ("cache", "gone"),
    [
        pytest.param({"maxSize": 300}, [], id="there is room"),
        pytest.param({"maxSize": 299}, ["old", "older"], id="what is shared goes with the last one"),
        pytest.param({"maxSize": 1}, ["old", "older", "young"], id="for none"),
        pytest.param({"maxIdle": "2d"}, ["old", "older"], id="by age"),
        pytest.param({"maxIdle": "6d", "maxSize": 250}, ["old", "older"], id="by both"),
    ],
)
def test_the_least_recently_pulled_goes_first(cache: dict[str, Any], gone: list[str]) -> None:
    held = [cached("young", 1, A, B), cached("old", 5, B, C), cached("older", 7, C)]
    found = list(doomed(held, Cache.model_validate(cache), 0.0))
    assert sorted(each.tag for each, _ in found) == gone
    assert [each.pulled for each, _ in found] == sorted(each.pulled for each, _ in found)


def test_a_record_of_an_older_version_was_polled() -> None:
    origin = Origin("r", "library/nginx", A, on_demand=True)
    record = TagRecord(A, "application/json", 1, 2.0, origin)
    assert tag_from_json(tag_to_json(record)) == record
    old = tag_to_json(TagRecord(A, "application/json", 1, 2.0, Origin("r", "library/nginx", A)))
    assert "onDemand" not in json.dumps(old)
    assert tag_from_json(old).origin == Origin("r", "library/nginx", A)


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def profile_of(folder: Path, *entries: dict[str, Any], **storage: Any) -> Profile:
    text = json.dumps(
        {"storage": {"rootDirectory": "store", **storage}, "sync": {"registries": list(entries)}}
    )
    return parse_profile(text, folder / "profile.json").profile


def put(
    store: Store, tag: str, *, on_demand: bool = True, entry: str = "registry1", days: float = 0
) -> Digest:
    """An image of some 10 kB that was last pulled so many days ago."""
    repository = store.repository(NAME)
    made = ImageMaker(repository).image([layer(tag, 10_000)])
    origin = Origin(entry, NAME, made.digest, on_demand=on_demand) if entry else None
    when = time.time() - days * DAY
    repository.put_tag(Tag(tag), TagRecord(made.digest, made.media_type, made.size, when, origin))
    return made.digest


def pulled(store: Store, reference: Tag | Digest, days: float) -> None:
    repository = store.repository(NAME)
    repository.note_pull(reference)
    when = time.time() - days * DAY
    os.utime(store.root / repository._pull_key(reference), (when, when))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param({"entry": ""}, id="pushed"),
        pytest.param({"on_demand": False}, id="polled"),
        pytest.param({"entry": "another"}, id="of an entry without a cache"),
    ],
)
def test_what_did_not_come_on_demand_stays(tmp_path: Path, case: dict[str, Any]) -> None:
    profile = profile_of(tmp_path, document("http://r:5000", cache={"maxSize": 1, "maxIdle": "1d"}))
    store = open_store(profile)
    put(store, "1", days=9, **case)
    assert evict(store, profile) == 0


def test_what_a_poll_takes_too_stays(tmp_path: Path) -> None:
    """It would only come back."""
    rules = [{"prefix": "library/*", "tags": {"semver": True}}]
    entry = document("http://r:5000", cache={"maxSize": 1}, content=rules, pollInterval="6h")
    profile = profile_of(tmp_path, entry)
    store = open_store(profile)
    put(store, "1.0.0", days=9)
    put(store, "latest", days=1)
    assert evict(store, profile) == 1
    assert visible(store) == [f"{NAME}:1.0.0"]


def test_a_pull_by_tag_or_by_digest_keeps_an_image(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, document("http://r:5000", cache={"maxSize": "25kB"}))
    store = open_store(profile)
    by_tag, by_digest, not_at_all = (put(store, tag, days=9) for tag in ("1", "2", "3"))
    pulled(store, Tag("1"), 1)
    pulled(store, by_digest, 2)
    told: list[Removal] = []
    assert evict(store, profile, dry_run=True, told=told.append) == 1
    assert [each.name for each in told] == [f"{NAME}:3"]
    assert len(visible(store)) == 3
    assert evict(store, profile) == 1
    assert visible(store) == [f"{NAME}:1", f"{NAME}:2"]
    assert by_tag != not_at_all


def test_a_companion_goes_with_its_image(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, document("http://r:5000", cache={"maxIdle": "5d"}))
    store = open_store(profile)
    old, young = put(store, "1", days=9), put(store, "2", days=1)
    for subject in (old, young):
        put(store, f"{subject.replace(':', '-')}.sig", days=9)
    assert evict(store, profile) == 2
    assert visible(store) == sorted([f"{NAME}:2", f"{NAME}:{young.replace(':', '-')}.sig"])


def test_garbage_collection_gives_the_bytes_back_and_a_pull_brings_them_again(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    upstream.add_image(NAME, "1", layers=(b"x" * 100_000,))
    entry = document(f"http://{upstream.host}", cache={"maxSize": 1000}, manifestCheckInterval="1h")
    with mirroring(tmp_path, entry, gcDelay="1ms") as mirror:
        path = f"/v2/{NAME}/manifests/1"
        layer_path = f"/v2/{NAME}/blobs/{Digest.of(b'x' * 100_000)}"
        for _ in range(2):
            assert mirror.client.get(path).status_code == 200
            mirror.work.wait()
            record = mirror.store.repository(NAME).tag(Tag("1"))
            assert record is not None
            assert record.origin is not None
            assert record.origin.on_demand
            profile = profile_of(tmp_path, entry, gcDelay="1ms")
            time.sleep(0.05)  # the delay of the collection
            assert collect_garbage(mirror.store, profile).tags == 1
            collect_garbage(mirror.store, profile)
            assert visible(mirror.store) == []
        assert mirror.client.get(layer_path).status_code == 404
        assert mirror.client.get(path).status_code == 200
        assert mirror.client.get(layer_path).content == b"x" * 100_000


def test_an_index_of_which_a_part_is_here_may_go(tmp_path: Path, upstream: Misbehaving) -> None:
    from tests.on_demand.test_fetching import platform_entry
    from tests.tasks.runs import add_index

    amd = upstream.add_image("multi", "amd", layers=(b"amd",))
    arm = upstream.add_image("multi", "arm", layers=(b"arm",))
    add_index(
        upstream, "multi", "1", platform_entry(amd.manifest, "amd64"), platform_entry(arm.manifest, "arm64")
    )
    entry = document(f"http://{upstream.host}", cache={"maxSize": 1})
    with mirroring(tmp_path, entry) as mirror:
        for reference in ("1", amd.manifest.digest):
            assert mirror.client.get(f"/v2/multi/manifests/{reference}").status_code == 200
        mirror.work.wait()
        assert visible(mirror.store) == ["multi:1"]
        assert evict(mirror.store, profile_of(tmp_path, entry)) == 1
        assert visible(mirror.store) == []


def test_a_store_that_is_not_bounded_is_not_looked_at(tmp_path: Path) -> None:
    with minding(tmp_path, document("http://r:5000")) as (profile, _, store, _):
        put(store, "1", days=1000)
        assert evict(store, profile) == 0
