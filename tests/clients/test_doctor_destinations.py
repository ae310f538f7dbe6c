"""What `mirrorflow doctor` finds out about other registries that images are written to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flows.doctor.checks import build_checks
from flows.doctor.destination import DestinationCheck
from profiles.loader import parse_profile
from tasks.upstream.login.credentials import NoCredentials
from tests.support.push_target import PushTarget, push_target
from tests.support.registry_answers import error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = [{"prefix": "library/nginx"}]


@pytest.fixture
def target() -> Iterator[PushTarget]:
    with push_target() as found:
        yield found


def findings(
    folder: Path, url: str, content: list[dict[str, Any]] = CONTENT, **destination: Any
) -> dict[str, tuple[str, str]]:
    """By check: the outcome, and what was found."""
    entry = {"urls": ["https://docker.io"], "to": ["other"], "pollInterval": "6h", "content": content}
    document = {
        "storage": {"rootDirectory": "store"},
        "destinations": [{"name": "other", "url": url, "prefix": "m", **destination}],
        "sync": {"registries": [entry]},
    }
    profile = parse_profile(json.dumps(document), folder / "profile.json").profile
    (check,) = (each for each in build_checks(profile, (), {}) if isinstance(each, DestinationCheck))
    check = DestinationCheck(check.settings, profile.sync.registries, NoCredentials(), None)
    return {found.check: (found.outcome, found.found) for found in check.findings()}


def test_a_destination_that_takes_pushes_is_asked_and_nothing_is_pushed(
    tmp_path: Path, target: PushTarget
) -> None:
    found = findings(tmp_path, target.url)
    assert {check: outcome for check, (outcome, _) in found.items()} == {
        "reachable": "ok",
        "login": "ok",
        "push": "ok",
    }
    assert found["push"][1] == "it takes blobs for m/library/nginx"
    assert target.counts() == {"GET ping": 1, "POST uploads": 1, "DELETE uploads": 1}
    assert not target.uploads
    assert not target.blobs["m/library/nginx"]


def test_one_that_refuses_pushes_fails_in_its_own_words(tmp_path: Path, target: PushTarget) -> None:
    target.refuses_pushes = error(403, "DENIED", "robot$reader may only pull")
    outcome, said = findings(tmp_path, target.url)["push"]
    assert outcome == "failed"
    assert "into m/library/nginx: 403 Forbidden: DENIED: robot$reader may only pull" in said


@pytest.mark.parametrize(
    ("destination", "outcome", "words"),
    [
        pytest.param({}, "failed", "there is no repository m/library/nginx", id="it has to be made"),
        pytest.param(
            {"createRepositories": {"region": "eu-central-1"}}, "ok", "createRepositories makes it", id="ecr"
        ),
    ],
)
def test_a_repository_that_is_not_there(
    tmp_path: Path, target: PushTarget, destination: dict[str, Any], outcome: str, words: str
) -> None:
    target.known = set()
    found = findings(tmp_path, target.url, **destination)["push"]
    assert found[0] == outcome
    assert words in found[1]


def test_one_that_is_down_is_named(tmp_path: Path) -> None:
    with push_target() as gone:
        url = gone.url
    assert findings(tmp_path, url)["reachable"][0] == "failed"


def test_where_only_globs_name_repositories_the_push_is_not_tried(tmp_path: Path, target: PushTarget) -> None:
    assert findings(tmp_path, target.url, [{"prefix": "library/*"}])["push"][0] == "note"
    assert target.counts() == {"GET ping": 1}
