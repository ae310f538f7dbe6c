"""createRepositories: repositories that Amazon's API makes before something is pushed into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.ecr_api import EcrApi, ecr_api
from tests.support.push_target import PushTarget, push_target
from tests.support_misbehaving import Misbehaving, misbehaving
from tests.tasks.destinations.syncing import LAYER, assert_whole, sync_to

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where Amazon's library looks for them first; nothing of the machine."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        found.add_image("library/nginx", "1", layers=(LAYER,))
        found.add_image("library/apache", "1", layers=(LAYER, b"x"))
        yield found


@pytest.fixture
def target() -> Iterator[PushTarget]:
    with push_target(known={"other/team"}) as found:
        yield found


def keys(api: EcrApi, **more: Any) -> dict[str, Any]:
    section = {"api": "ecr", "region": "eu-central-1", "endpoint": api.url, **more}
    return {"prefix": "team", "createRepositories": section}


def test_what_is_missing_is_made_once(tmp_path: Path, upstream: Misbehaving, target: PushTarget) -> None:
    with ecr_api(target) as api:
        for _ in range(2):
            assert sync_to(tmp_path, upstream, target, destination=keys(api)).complete
    assert sorted(each["repositoryName"] for each in api.made) == [
        "team/library/apache",
        "team/library/nginx",
    ]
    assert {each["imageTagMutability"] for each in api.made} == {"MUTABLE"}
    assert all("Credential=AKIAIOSFODNN7EXAMPLE" in each for each in api.signed)
    assert_whole(target, "team/library/nginx", "1")


def test_repositories_can_be_made_immutable(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    with ecr_api(target) as api:
        assert sync_to(tmp_path, upstream, target, destination=keys(api, immutableTags=True)).complete
    assert {each["imageTagMutability"] for each in api.made} == {"IMMUTABLE"}


def test_the_path_of_the_url_belongs_to_the_name(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    with ecr_api(target) as api:
        url = f"{target.url}/project"
        assert sync_to(tmp_path, upstream, url, {"prefix": "library/nginx"}, destination=keys(api)).complete
    assert [each["repositoryName"] for each in api.made] == ["project/team/library/nginx"]


def test_rights_that_are_missing_fail_the_images_and_show_no_secret(
    tmp_path: Path, upstream: Misbehaving, target: PushTarget
) -> None:
    with ecr_api(target, (400, "AccessDeniedException")) as api:
        report = sync_to(tmp_path, upstream, target, destination=keys(api))
    reasons = " ".join(image.reason for image in report.images)
    assert "destination other: cannot make the repository team/library/" in reasons
    assert "AccessDeniedException" in reasons
    assert SECRET not in reasons
