"""A changed policy judges what is stored: nothing unjudged is served, and nothing is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from flows.entries import open_store
from flows.reporting.tag_status import tag_statuses
from profiles.loader import parse_profile
from registry_server.http.server_process import running_server
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.media_types import OCI_CONFIG, OCI_EMPTY
from registry_server.oci.reference import Tag
from registry_server.store.gc.collector import collect
from registry_server.store.gc.retention import GcOptions
from registry_server.store.mirror_state.hidden_content import hide
from registry_server.store.records import TagRecord
from tasks.manifests.verdict_record import ARTIFACT_TYPE
from tasks.planning import plan_entry
from tasks.results.outcomes import Outcome
from tasks.stored.images import Standing, StoredImages, count_by_entry
from tasks.stored.policy_sweep import sweep
from tests.support.stored_files import file_of
from tests.tasks.companies import APP
from tests.tasks.runs import mirror, opened, rows, store_of
from tests.tasks.trust.attacker import (
    OURS,
    ROOTFS,
    TAR,
    ZIPPED,
    attacked,
    config_of,
    manifest_of,
    pem_of,
    policy,
    sign,
)
from tests.tasks.trust.test_attacks import (
    DISGUISES,
    assert_nothing_is_reachable,
    assert_the_signed_image_is_there,
    unsigned_tag,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiles.model.profile import Profile
    from registry_server.store.store import Store
    from tasks.results.report import Report
    from tests.tasks.trust.attacker import Attack

V1, V2 = Tag("v1"), Tag("v2")


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    with attacked(tmp_path, api=True) as found:
        yield found


def fill(folder: Path, attack: Attack, **more: Any) -> Report:
    """One poll, by default without a policy."""
    with opened(folder, attack.upstream.url, more=more) as run:
        return mirror(run)


def profile_of(folder: Path, attack: Attack, **more: Any) -> tuple[Profile, Store]:
    entry = {"name": "registry1", "urls": [attack.upstream.url], "content": [{"prefix": "**"}]}
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}, **more}
    profile = parse_profile(json.dumps(document), folder / "profile.json").profile
    return profile, open_store(profile)


def push_unsigned(attack: Attack) -> Descriptor:
    return attack.push(manifest_of(OCI_CONFIG, config_of(b"x"), (f"{TAR}+gzip", ZIPPED)), "v2")


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
def test_of_a_store_that_was_filled_without_a_policy_only_what_is_signed_is_served(
    attack: Attack, tmp_path: Path, disguise: Callable[[Attack], None]
) -> None:
    disguise(attack)
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack, **policy())
    sweep(profile, store)
    with running_server(store.root) as url, httpx.Client(base_url=url) as client:
        assert_the_signed_image_is_there(client, attack)
        assert_nothing_is_reachable(client, attack)
    record = store.repository(APP).tag(V1)
    assert record is not None
    assert record.verdict.startswith("verified")


def test_nothing_is_judged_twice_by_one_policy(attack: Attack, tmp_path: Path) -> None:
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack, **policy())
    assert sweep(profile, store).judged == 1
    assert not sweep(profile, store)


def test_a_poll_brings_back_what_was_signed_meanwhile_without_a_byte_of_it(
    attack: Attack, tmp_path: Path
) -> None:
    image = push_unsigned(attack)
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack, **policy())
    sweep(profile, store)
    assert rows(fill(tmp_path, attack, **policy()))["app:v2"].outcome is Outcome.FAILED
    sign(attack.upstream, image)
    row = rows(fill(tmp_path, attack, **policy()))["app:v2"]
    assert (row.outcome, row.bytes_moved) == (Outcome.COPIED, 0)
    assert store.repository(APP).tag(V2) is not None
    sweep(profile, store)
    assert store.hidden(APP).tag(V2) is None, "what is served again is not hidden as well"


@pytest.mark.parametrize(
    ("config", "layer", "stays"),
    [
        pytest.param((OCI_EMPTY, b"{}"), (ARTIFACT_TYPE, b'{"verdict": "verified"}'), True, id="a verdict"),
        pytest.param((OCI_CONFIG, config_of(ROOTFS)), (f"{TAR}+gzip", ZIPPED), False, id="an image"),
        pytest.param((OCI_EMPTY, b"{}"), (ARTIFACT_TYPE, ZIPPED), False, id="an archive of its type"),
        pytest.param((OCI_CONFIG, config_of(ROOTFS)), (ARTIFACT_TYPE, b"{}"), False, id="an image config"),
    ],
)
def test_of_what_claims_to_be_a_verdict_only_verdicts_stay(
    attack: Attack, tmp_path: Path, config: tuple[str, bytes], layer: tuple[str, bytes], *, stays: bool
) -> None:
    """Earlier versions took such referrers from upstreams."""
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack, **policy())
    subject = attack.signed.to_json()
    body, blobs = manifest_of(*config, layer, artifactType=ARTIFACT_TYPE, subject=subject)
    repository = store.repository(APP)
    manifest = parse_manifest(body)
    for descriptor, content in zip((manifest.config, *manifest.layers), blobs, strict=True):
        assert descriptor is not None
        repository.put_blob(descriptor, content)
    pushed = repository.put_manifest(manifest)
    sweep(profile, store)
    assert (pushed.digest in {each.digest for each in repository.referrers(attack.signed.digest)}) is stays
    assert repository.has_blob(pushed.digest) is stays


@pytest.mark.parametrize(
    ("action", "served", "hidden", "after_a_poll"),
    [
        pytest.param("keep", True, False, False, id="keep: served, and reported"),
        pytest.param("hide", False, True, True, id="hide: kept until it passes"),
        pytest.param("delete", False, True, False, id="delete: gone when the upstream has no signature"),
    ],
)
def test_the_rule_says_what_becomes_of_an_image_that_falls_short(
    attack: Attack, tmp_path: Path, action: str, *, served: bool, hidden: bool, after_a_poll: bool
) -> None:
    push_unsigned(attack)
    fill(tmp_path, attack)
    more = policy(onFailure=action)
    profile, store = profile_of(tmp_path, attack, **more)
    swept = sweep(profile, store)
    assert (store.repository(APP).tag(V2) is not None) is served
    assert (store.hidden(APP).tag(V2) is not None) is hidden
    assert {**swept.hidden, **swept.kept}.keys() == {"app:v2"}
    fill(tmp_path, attack, **more)
    assert (store.hidden(APP).tag(V2) is not None) is after_a_poll


def test_a_replaced_key_hides_what_the_old_one_signed(attack: Attack, tmp_path: Path) -> None:
    fill(tmp_path, attack, **policy())
    profile, store = profile_of(tmp_path, attack, **policy())
    assert not sweep(profile, store).hidden
    profile, store = profile_of(tmp_path, attack, **policy(key=ec.generate_private_key(ec.SECP256R1())))
    assert count_by_entry(StoredImages(profile, store).shortfalls()) == {"registry1": {Standing.OUTDATED: 1}}
    assert sweep(profile, store).hidden.keys() == {"app:v1"}
    assert store.repositories() == [], "nothing of it is left to be seen"
    assert count_by_entry(StoredImages(profile, store).shortfalls()) == {"registry1": {Standing.HIDDEN: 1}}
    [row] = tag_statuses(store, short=StoredImages(profile, store).shortfalls())
    assert "is not by key" in row.problem


def test_the_images_of_an_entry_that_was_renamed_stay_under_the_policy(
    attack: Attack, tmp_path: Path
) -> None:
    push_unsigned(attack)
    fill(tmp_path, attack)
    renamed = {"name": "new", "urls": [attack.upstream.url], "content": [{"prefix": "**"}]}
    profile, store = profile_of(tmp_path, attack, **policy(), sync={"registries": [renamed]})
    assert sweep(profile, store).hidden.keys() == {"app:v2"}
    assert store.repository(APP).tag(V1) is not None
    assert rows(fill(tmp_path, attack, **policy()))["app:v2"].outcome is Outcome.FAILED


def test_what_a_client_pushed_is_not_under_the_policy(attack: Attack, tmp_path: Path) -> None:
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack, **policy())
    body, blobs = manifest_of(OCI_CONFIG, config_of(b"pushed"), (f"{TAR}+gzip", b"pushed"))
    repository = store.repository(APP)
    for blob in blobs:
        repository.put_blob(Descriptor("a/b", Digest.of(blob), len(blob)), blob)
    made = repository.put_manifest(parse_manifest(body))
    repository.put_tag(Tag("ours"), TagRecord(made.digest, made.media_type, made.size, 0.0))
    sweep(profile, store)
    assert repository.find_manifest(Tag("ours")).descriptor.digest == made.digest
    assert not repository.missing(parse_manifest(body))


def test_an_image_stays_as_long_as_one_of_its_tags_passes(attack: Attack, tmp_path: Path) -> None:
    """One digest, and a rule for the tag `old` that it does not meet."""
    body = attack.upstream.keep
    made = manifest_of(OCI_CONFIG, config_of(b"two"), (f"{TAR}+gzip", b"two tags"))
    image = body(*made, "new")
    body(*made, "old")
    sign(attack.upstream, image)
    fill(tmp_path, attack)
    more = policy()
    [rule] = more["verify"]["rules"]
    more["trust"]["keys"]["other"] = {"pem": pem_of(ec.generate_private_key(ec.SECP256R1()))}
    other = {"name": "other", "type": "key", "key": "other"}
    more["verify"]["rules"].insert(0, rule | {"tags": ["old"], "signatures": {"from": [other]}})
    profile, store = profile_of(tmp_path, attack, **more)
    assert sweep(profile, store).hidden.keys() == {"app:old"}
    repository = store.repository(APP)
    assert repository.tag(Tag("new")) is not None
    assert not repository.missing(parse_manifest(repository.read_manifest(image.digest)[1]))


def test_the_collector_keeps_what_is_hidden_and_takes_it_when_it_is_given_up(
    attack: Attack, tmp_path: Path
) -> None:
    push_unsigned(attack)
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack, **policy())
    sweep(profile, store)
    options = {store.root: GcOptions(delay=-10, settle=0)}
    for _ in range(2):
        collect(store, options)
    assert store.hidden(APP).pool_holds(Digest.of(ZIPPED))
    assert not store.repository(APP).has_blob(Digest.of(ZIPPED))
    store.hidden(APP).delete_tag(V2)
    for _ in range(3):
        collect(store, options)
    assert not store.hidden(APP).pool_holds(Digest.of(ZIPPED))


def test_what_was_kept_and_not_yet_withdrawn_is_withdrawn_by_the_next_sweep(
    attack: Attack, tmp_path: Path
) -> None:
    """As a process leaves it that is killed in between: the copy in the hidden area is whole."""
    push_unsigned(attack)
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack, **policy())
    record = store.repository(APP).tag(V2)
    assert record is not None
    hide(store, APP, {V2: record}, ())
    store.repository(APP).put_tag(V2, record)
    sweep(profile, store)
    assert store.repository(APP).tag(V2) is None
    hidden = store.hidden(APP)
    assert not hidden.missing(parse_manifest(hidden.read_manifest(record.digest)[1]))


def test_without_policies_nothing_is_looked_at(attack: Attack, tmp_path: Path) -> None:
    unsigned_tag(attack)
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack)
    assert not sweep(profile, store)
    assert store.repository(APP).tag(V2) is not None


def test_a_damaged_image_is_hidden_and_its_neighbours_are_judged(attack: Attack, tmp_path: Path) -> None:
    image = push_unsigned(attack)
    sign(attack.upstream, image)
    fill(tmp_path, attack)
    profile, store = profile_of(tmp_path, attack, **policy())
    path = file_of(store.repository(APP), attack.signed.digest)
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert sweep(profile, store).judged == 2
    assert store.repository(APP).tag(V2) is not None


def test_the_fingerprint_is_that_of_the_key_and_not_of_its_file(attack: Attack, tmp_path: Path) -> None:
    for name in ("one.pub", "two.pub"):
        (tmp_path / name).write_text(pem_of(OURS))
    found: set[str] = set()
    for named in ({"file": "one.pub"}, {"file": "two.pub"}, {"pem": pem_of(OURS) + "\n"}):
        more = policy()
        more["trust"]["keys"]["ours"] = named
        profile, store = profile_of(tmp_path, attack, **more)
        fill(tmp_path, attack, **more)
        found.update(each.policy for each in StoredImages(profile, store).all())
    assert len(found) == 1


def test_during_a_rotation_both_keys_count(attack: Attack, tmp_path: Path) -> None:
    more = policy()
    other = pem_of(ec.generate_private_key(ec.SECP256R1()))
    more["trust"]["keys"]["ours"] = {"pem": f"# the new one\n{other}\n{pem_of(OURS)}"}
    assert rows(fill(tmp_path, attack, **more))["app:v1"].outcome is Outcome.COPIED


def test_a_tag_that_was_set_since_the_sweep_looked_keeps_what_it_stands_on(
    attack: Attack, tmp_path: Path
) -> None:
    """Invariant 1, against a run that publishes at the same moment."""
    image = push_unsigned(attack)
    fill(tmp_path, attack)
    repository = store_of(tmp_path).repository(APP)
    record = repository.tag(V2)
    assert record is not None
    repository.put_tag(Tag("new"), record)
    repository.withdraw({V2: record}, [image.digest])
    assert repository.tag(V2) is None
    assert not repository.missing(parse_manifest(repository.read_manifest(Tag("new"))[1]))


def test_what_is_hidden_of_an_entry_that_is_never_polled_goes_at_once_with_delete(
    attack: Attack, tmp_path: Path
) -> None:
    push_unsigned(attack)
    fill(tmp_path, attack)
    for action, hidden in (("hide", True), ("delete", False)):
        profile, store = profile_of(tmp_path, attack, **policy(onFailure=action))
        [entry] = profile.sync.registries
        on_demand = entry.model_copy(update={"on_demand": True})
        sync = profile.sync.model_copy(update={"registries": (on_demand,)})
        sweep(profile.model_copy(update={"sync": sync}), store)
        assert (store.hidden(APP).tag(V2) is not None) is hidden


def test_a_plan_knows_what_will_be_refused_and_writes_nothing(attack: Attack, tmp_path: Path) -> None:
    push_unsigned(attack)
    with opened(tmp_path, attack.upstream.url, more=policy()) as run:
        plan = plan_entry(replace(run, rehearsal=True))
        left = [path for path in Path(run.store.root, "repos").rglob("*") if path.is_file()]
    assert plan.refused.keys() == {"app:v2"}
    assert "it has no signature" in plan.refused["app:v2"]
    assert {image.image for image in plan.images} == {"app:v1", f"app:{attack.stem}.sig"}
    assert not left
