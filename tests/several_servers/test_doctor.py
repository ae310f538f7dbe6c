"""`mirrorflow doctor` calls each receiver: clients do not notice one that fails while there is another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flows.doctor.checks import build_checks
from flows.doctor.receivers import ReceiversCheck
from profiles.loader import load_profile
from registry_server.store.store import Store
from tests.several_servers.programs import receiving
from tests.several_servers.test_receivers import write_profile
from tests.support_misbehaving import Misbehaving, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def found(path: Path) -> list[tuple[str, str, str]]:
    """Check, outcome and advice of the findings about receivers."""
    profile = load_profile(path).profile
    store = Store.open(path.parent / "store")
    return [
        (each.check, each.outcome.value, each.advice) for each in ReceiversCheck(profile, store).findings()
    ]


def test_a_receiver_that_answers_one_that_does_not_and_one_with_another_secret(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    path = write_profile(tmp_path, upstream)
    program, url = receiving(path)
    with program:
        Store.open(tmp_path / "store").receivers.renew("http://127.0.0.1:9/")
        findings = {check: (outcome, advice) for check, outcome, advice in found(path)}
        assert findings[url] == ("ok", "")
        assert findings["http://127.0.0.1:9/"][0] == "failed"
        assert "forgotten after an hour" in findings["http://127.0.0.1:9/"][1]
        (tmp_path / "on-miss.secret").write_text("another one")
        assert [each[1] for each in found(path)] == ["failed", "failed"]
    assert not upstream.requests()


@pytest.mark.parametrize(
    ("section", "check", "words"),
    [
        pytest.param({}, "found", "start one: mirrorflow receive", id="none has registered"),
        pytest.param({"urls": ["http://127.0.0.1:9/"]}, "http://127.0.0.1:9/", "start it", id="listed"),
    ],
)
def test_without_a_receiver_it_says_what_to_start(
    tmp_path: Path, upstream: Misbehaving, section: dict[str, Any], check: str, words: str
) -> None:
    ((name, outcome, advice),) = found(write_profile(tmp_path, upstream, **section))
    assert (name, outcome) == (check, "failed")
    assert words in advice


def test_a_secret_that_cannot_be_read_is_a_finding(tmp_path: Path, upstream: Misbehaving) -> None:
    path = write_profile(tmp_path, upstream)
    (tmp_path / "on-miss.secret").unlink()
    assert [each[:2] for each in found(path)] == [("found", "failed")]


def test_a_profile_without_such_receivers_has_no_such_check(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"storage": {"rootDirectory": "store"}, "sync": {"registries": []}}))
    checks = build_checks(load_profile(path).profile, (), {})
    assert "receivers" not in [each.subject.name for each in checks]
