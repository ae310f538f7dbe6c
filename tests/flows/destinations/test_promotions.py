"""`store snapshot`, `promote`, `rollback` and `promotions`, as a user types them.

Without the network, but where they go to another registry.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import TagRecord
from tests.registry_server.store.images import put_image
from tests.support.command_line import mirrorflow as over_network
from tests.support.push_target import push_target
from tests.tasks.stored.audits import mirrorflow
from tests.tasks.stored.bundles.sides import Side

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor

    Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path / "side", content=[{"prefix": "hub/**"}])


def push(side: Side, name: str, content: bytes) -> Descriptor:
    repository, _, tag = name.partition(":")
    held = side.store.repository(RepositoryName(repository))
    made = put_image(held, content)
    held.put_tag(Tag(tag), TagRecord(made.digest, made.media_type, made.size, 1.5))
    return made


def run(
    side: Side, *arguments: object, code: int = 0, command: Command = mirrorflow
) -> subprocess.CompletedProcess[str]:
    """The last word of a command is what stands before the profile: `store snapshot`."""
    words = list(arguments)
    at = 2 if words[0] == "store" else 1
    done = command(*words[:at], side.profile, *words[at:])
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_from_a_snapshot_to_prod_and_back(side: Side) -> None:
    old = push(side, "dev/web:v1", b"one")
    assert "snapshot friday: 1 tag" in run(side, "store", "snapshot", "friday", "dev/**").stderr
    new = push(side, "dev/web:v1", b"two")
    shown = run(side, "promote", "dev", "prod", "--dry-run", code=2).stdout
    assert f"prod/web:v1: new -> {new.digest.short}: no policy" in shown
    assert "prod/web:v1" not in side.digests()
    run(side, "promote", "dev", "prod", "--snapshot", "friday")
    assert side.digests()["prod/web:v1"] == old.digest
    promoted = run(side, "promote", "dev", "prod").stdout
    assert f"prod/web:v1: {old.digest.short} -> {new.digest.short}" in promoted
    assert "names the same already" in run(side, "promote", "dev", "prod").stderr
    assert "names the same already" in run(side, "promote", "dev/", "prod/").stderr
    run(side, "rollback")
    assert side.digests()["prod/web:v1"] == old.digest
    lines = run(side, "promotions").stdout.splitlines()
    assert [
        re.sub(r"[0-9]{8}T[0-9]{6}-\d{6}-\w{6}", "ID", line.partition("@")[2].split("  ")[1])
        for line in lines
    ] == [
        "promote dev to prod from snapshot friday: 1 tag",
        "promote dev to prod: 1 tag",
        "roll back ID (promote dev to prod): 1 tag",
    ]


def test_what_is_printed_for_programs(side: Side) -> None:
    made = push(side, "dev/web:v1", b"one")
    run(side, "store", "snapshot", "one")
    (row,) = _json(run(side, "store", "snapshots", "--json"))["snapshots"]
    assert (row["name"], row["tags"]) == ("one", 1)
    plan = _json(run(side, "promote", "dev", "prod", "--dry-run", "--json", code=2))
    assert plan["tags"] == [
        {
            "image": "prod/web:v1",
            "from": "dev/web:v1",
            "before": None,
            "after": made.digest,
            "verdict": "no policy",
        }
    ]
    change = _json(run(side, "promote", "dev", "prod", "--json"))["change"]
    assert change["tags"]["prod/web:v1"]["after"]["digest"] == made.digest
    back = _json(run(side, "rollback", "--json"))["change"]
    assert back["undoes"] == change["id"]
    listed = _json(run(side, "promotions", "--json"))["changes"]
    assert [each["id"] for each in listed] == [change["id"], back["id"]]


def test_a_refusal_names_each_image_and_changes_nothing(side: Side) -> None:
    signer = {"name": "team", "type": "key", "key": "team"}
    side.policy = {"verify": {"rules": [{"match": ["prod/**"], "signatures": {"from": [signer]}}]}}
    for name in ("web", "api"):
        push(side, f"dev/{name}:v1", name.encode())
    done = run(side, "promote", "dev", "prod", code=1)
    lines = done.stderr.splitlines()
    assert lines[0] == "error: nothing was changed, because of:"
    assert [line.partition(": refused")[0] for line in lines[1:]] == [
        "error: prod/api:v1",
        "error: prod/web:v1",
    ]
    shown = run(side, "promote", "dev", "prod", "--dry-run", code=1).stdout
    assert "0 tags would change, 0 unchanged, 2 problems" in shown
    assert not [name for name in side.digests() if name.startswith("prod/")]


def test_snapshots_are_listed_and_deleted(side: Side) -> None:
    push(side, "dev/web:v1", b"one")
    assert "there is no snapshot" in run(side, "store", "snapshots").stderr
    run(side, "store", "snapshot", "one")
    assert run(side, "store", "snapshots").stdout.startswith("one: 1 tag, taken 20")
    run(side, "store", "snapshot", "one", "--delete")
    assert (
        "there is no snapshot one; there is: none"
        in run(side, "store", "snapshot", "one", "--delete", code=1).stderr
    )


def _json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["version"] == 1
    return found


def test_into_another_registry_and_back_as_a_user_types_it(side: Side) -> None:
    made = push(side, "dev/web:v1", b"one")
    with push_target() as target:
        side.destinations = [{"name": "harbor", "url": target.url}]
        shown = run(side, "promote", "dev", "harbor:prod", "--dry-run", code=2, command=over_network).stdout
        assert f"prod/web:v1: new -> {made.digest.short}" in shown
        run(side, "promote", "dev", "harbor:prod", command=over_network)
        assert target.tag("prod/web", "v1") == made.digest
        assert "promote dev to harbor:prod: 1 tag" in run(side, "promotions").stdout
        run(side, "rollback", command=over_network)
        assert target.tag("prod/web", "v1") == ""
