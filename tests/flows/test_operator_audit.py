"""What an operator changes by a command stands in the audit log: who, what, with which verdict."""

from __future__ import annotations

import json
import os
import pwd
import socket
from typing import TYPE_CHECKING, Any

import pytest

from flows.cli.releasing.bundles import apply_in_store
from flows.cli.releasing.promotions import promote_tags, roll_back
from flows.cli.stored_tags import remove_tags
from flows.maintenance.operator_audit import operator_name
from flows.maintenance.pruning import undelete_images
from profiles.loader import load_profile
from tasks.run.errors import AuditUnusable
from tests.support.push_target import push_target
from tests.tasks.stored.bundles.sides import ENFORCED, Side, gap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from profiles.model.profile import Profile
    from registry_server.store.store import Store


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path / "side", content=[{"prefix": "hub/**"}])


def audited(side: Side, log: str = "audit.log") -> Profile:
    profile = load_profile(side.profile).profile
    return profile.model_copy(
        update={"log": profile.log.model_copy(update={"audit": side.folder / log})},
    )


def lines(side: Side) -> list[dict[str, Any]]:
    """Without what is the same in each."""
    found = [json.loads(line) for line in (side.folder / "audit.log").read_text().splitlines()]
    for each in found:
        assert (each.pop("by"), each.pop("user")) == ("command", operator_name())
        del each["time"]
    return found


def test_a_promotion_and_its_way_back(side: Side) -> None:
    made = side.put("dev/web:v1", b"one")
    profile = audited(side)
    change = promote_tags(profile, side.store, "dev", "prod", None)
    assert change is not None
    back = roll_back(profile, side.store, None)
    promoted, rolled_back = lines(side)
    assert promoted == {
        "event": "promote", "outcome": "done", "repository": "prod/web", "reference": "v1",
        "digest": made.digest, "verdict": "no policy", "change": change.id,
    }  # fmt: skip
    assert (rolled_back["event"], rolled_back["change"]) == ("rollback", back.id)
    assert "digest" not in rolled_back, "the tag is gone"


def test_a_promotion_into_another_registry_names_it(tmp_path: Path) -> None:
    with push_target() as target:
        side = Side(tmp_path / "side", destinations=[{"name": "prod", "url": target.url}])
        side.put("dev/web:v1", b"one")
        promote_tags(audited(side), side.store, "dev", "prod:", None)
    assert [(each["event"], each["destination"]) for each in lines(side)] == [("promote", "prod")]


def test_nothing_to_promote_is_no_line(side: Side) -> None:
    side.put("dev/web:v1", b"one")
    promote_tags(audited(side), side.store, "dev", "prod", None)
    assert promote_tags(audited(side), side.store, "dev", "prod", None) is None
    assert len(lines(side)) == 1


def test_a_tag_that_is_removed_and_brought_back(side: Side) -> None:
    made = side.put("team/app:v1", b"one")
    profile = audited(side)
    list(remove_tags(profile, side.store, ["team/app:v1"]))
    list(undelete_images(profile, side.store, ["team/app:v1"]))
    assert [(each["event"], each.get("digest")) for each in lines(side)] == [
        ("delete", None),
        ("restore", made.digest),
    ]


def test_images_of_a_bundle_that_were_let_in_and_refused(tmp_path: Path) -> None:
    sides = gap(tmp_path, policy=ENFORCED)
    sides.near.sign("team/app", sides.near.put("team/app:signed", b"one"))
    sides.near.put("team/app:unsigned", b"two")
    bundle = sides.carry("bundle")
    apply_in_store(audited(sides.far), sides.far.store, bundle, older=False, told=lambda _: None)
    found = {each["reference"]: each for each in lines(sides.far)}
    assert (found["signed"]["event"], found["signed"]["outcome"]) == ("apply", "done")
    assert found["unsigned"]["outcome"] == "refused"
    assert found["unsigned"]["reason"]


CHANGES: dict[str, Callable[[Profile, Store], object]] = {
    "promote": lambda profile, store: promote_tags(profile, store, "dev", "prod", None),
    "remove": lambda profile, store: list(remove_tags(profile, store, ["dev/web:v1"])),
    "undelete": lambda profile, store: list(undelete_images(profile, store, ["dev/web:v1"])),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_nothing_is_changed_where_it_cannot_be_written_down(
    side: Side, change: Callable[[Profile, Store], object]
) -> None:
    side.put("dev/web:v1", b"one")
    profile = audited(side, "no/such/folder/audit.log")
    before = side.digests()
    with pytest.raises(AuditUnusable, match=r"cannot write log\.audit"):
        change(profile, side.store)
    assert side.digests() == before


def test_who_does_it_is_not_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody-else")
    assert operator_name() == f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
