"""What plan, explain, status and prune say and do about destinations."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flows.cli.explain import explain_image
from flows.maintenance.operator_audit import OperatorAudit
from flows.maintenance.pruning import prune_run
from flows.reporting.mirror_status import mirror_status
from profiles.loader import load_profile
from tasks.planning import plan_entry
from tasks.run.audit import NO_AUDIT
from tests.support.push_target import PushTarget, push_target
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.destinations.syncing import LAYER, sync_to
from tests.tasks.runs import mirror, opened, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.context.mirror_run import MirrorRun

NGINX = "library/nginx"
PRUNE = {"prefix": NGINX, "prune": {"after": "1ms", "maxShare": "100%"}}


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        for tag in ("1", "2", "3"):
            found.add_image(NGINX, tag, layers=(LAYER, tag.encode()))
        yield found


@pytest.fixture
def target() -> Iterator[PushTarget]:
    with push_target() as found:
        yield found


@contextmanager
def opened_to(
    folder: Path, upstream: Misbehaving, target: PushTarget, *to: str, **more: Any
) -> Iterator[MirrorRun]:
    section = {"destinations": [{"name": "other", "url": target.url, "prefix": "m"}]}
    with opened(folder, f"http://{upstream.host}", to=to, more=section, **more) as run:
        yield run


def test_a_plan_weighs_what_the_destination_lacks(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    with opened_to(tmp_path, upstream, target, "other") as run:
        before = plan_entry(run)
    assert (before.to, len(before.images)) == (("other",), 3)
    assert (
        sum(image.new_bytes for image in before.images) == len(LAYER) + 3 + 2
    )  # the layer, small ones, config
    assert not target.counts()["PUT manifests"]
    with opened_to(tmp_path, upstream, target, "other") as run:
        mirror(run)
        assert not plan_entry(run)
    assert before.to_json()["to"] == ["other"]


@pytest.mark.parametrize(
    ("to", "said"),
    [
        pytest.param(["store"], "is stored as library/nginx:1", id="the store"),
        pytest.param(
            ["store", "other"],
            "is stored as library/nginx:1, and goes to other as r.example/p/m/library/nginx:1",
            id="both",
        ),
        pytest.param(
            ["other"],
            f"{NGINX}:1 goes to other as r.example/p/m/library/nginx:1",
            id="the other alone",
        ),
    ],
)
def test_explain_says_where_an_image_goes(tmp_path: Path, to: list[str], said: str) -> None:
    document = {
        "storage": {"rootDirectory": "store"},
        "destinations": [{"name": "other", "url": "https://r.example/p", "prefix": "m"}],
        "sync": {"registries": [{"urls": ["https://docker.io"], "to": to, "content": [{"prefix": NGINX}]}]},
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(document))
    [found] = explain_image(load_profile(path).profile, f"{NGINX}:1")
    assert found.words.endswith(said)


def test_status_tells_what_is_where(tmp_path: Path, upstream: Misbehaving, target: PushTarget) -> None:
    with opened_to(tmp_path, upstream, target, "store", "other") as run:
        report = mirror(run)
        store_of(tmp_path).reports.save("registry1", report.to_json())
    document = {
        "storage": {"rootDirectory": "store"},
        "destinations": [{"name": "other", "url": target.url, "prefix": "m"}],
        "sync": {
            "registries": [
                {
                    "name": "registry1",
                    "urls": [f"http://{upstream.host}"],
                    "to": ["store", "other"],
                    "content": [{"prefix": NGINX}],
                    "pollInterval": "6h",
                }
            ]
        },
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(document))
    status = mirror_status(load_profile(path), None, report.ended)
    assert status.is_complete
    assert [(row.destination, row.reference) for row in status.tags] == [
        (place, tag) for place in ("store", "other") for tag in ("1", "2", "3")
    ]


@pytest.mark.parametrize("to", [("other",), ("store", "other")], ids=" and ".join)
def test_what_the_upstream_deleted_is_removed_there_too(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, to: tuple[str, ...]
) -> None:
    sync_to(tmp_path, upstream, target, PRUNE, to=to)
    upstream.repositories[NGINX].tags.remove("2")
    target.manifests[NGINX]["3"] = ("application/vnd.oci.image.manifest.v1+json", b"{}")
    upstream.repositories[NGINX].tags.remove("3")
    report = [sync_to(tmp_path, upstream, target, PRUNE, to=to) for _ in range(2)][1]
    tags = {name for name in target.manifests[NGINX] if ":" not in name}
    assert tags == {"1", "3"}  # the last one is somebody else's by now
    assert any("removed 2 tags that the upstream deleted" in note for note in report.notes)


def test_a_registry_that_deletes_no_tags_is_named(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    sync_to(tmp_path, upstream, target, PRUNE)
    upstream.repositories[NGINX].tags.remove("2")
    target.deletes = False
    report = [sync_to(tmp_path, upstream, target, PRUNE) for _ in range(2)][1]
    assert target.tag(NGINX, "2")
    said = "library/nginx:2 was deleted upstream, and stays there: destination other deletes no tags"
    assert said in report.notes


@pytest.mark.parametrize("to", [("other",), ("store", "other")], ids=" and ".join)
def test_store_prune_removes_there_what_is_more_than_the_share(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget, to: tuple[str, ...]
) -> None:
    few = {"prefix": NGINX, "prune": {"after": "1ms", "maxShare": "1%"}}
    sync_to(tmp_path, upstream, target, few, to=to)
    upstream.repositories[NGINX].tags.remove("2")
    for _ in range(2):
        sync_to(tmp_path, upstream, target, few, to=to)
    assert "2" in target.manifests[NGINX]
    section = {"destinations": [{"name": "other", "url": target.url}]}
    with opened(tmp_path, f"http://{upstream.host}", few, to=to, more=section) as run:
        said = list[str]()
        silent = OperatorAudit(NO_AUDIT, "")
        assert prune_run(run, silent, yes=False, told=said.append) == 1
        assert prune_run(run, silent, yes=True, told=said.append) == 0
    assert "2" not in target.manifests[NGINX]
    assert any(line.endswith("1 tag removed") for line in said)
