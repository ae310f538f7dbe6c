"""Registries whose API is below a path, as Artifactory has them: said in `urls`, polled and on demand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.on_demand.mirrors import document, mirroring
from tests.support_misbehaving import Exchange, Misbehaving, answers, well_behaved
from tests.tasks.runs import assert_complete, mirror, opened, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

API = "/artifactory/api/docker/Team_X"


class Below(Misbehaving):
    """There is nothing but the API below a path."""

    def handle(self, exchange: Exchange) -> None:
        if not exchange.seen.target.startswith(f"{API}/v2/"):
            answers(404)(exchange)
            return
        exchange.seen = replace(exchange.seen, target=exchange.seen.target.removeprefix(API))
        super().handle(exchange)


@pytest.fixture
def below() -> Iterator[Below]:
    with Below() as server:
        server.add_image("app", "1")
        server.add_image("sub/app", "1")
        yield server


@pytest.mark.parametrize(
    ("path", "mirrored"),
    [
        # jfrog.com, "Docker Repositories": <host>/artifactory/api/docker/<key>/v2/ is where the API is
        pytest.param(f"{API}/v2", ["app:1", "sub/app:1"], id="the API's address"),
        pytest.param(f"{API}/v2/", ["app:1", "sub/app:1"], id="with a slash"),
        pytest.param(f"{API}/v2/sub", ["app:1"], id="and the beginning of repository names behind it"),
    ],
)
def test_the_api_may_be_below_a_path(tmp_path: Path, below: Below, path: str, mirrored: list[str]) -> None:
    with opened(tmp_path, f"http://{below.host}{path}") as run:
        report = mirror(run)
        assert sorted(visible(run.store)) == mirrored, report.message
        for name in mirrored:
            assert_complete(run.store, name)
    with mirroring(tmp_path / "demand", document(f"http://{below.host}{path}")) as found:
        assert found.client.get("/v2/app/manifests/1").status_code == 200


def test_the_challenge_is_asked_for_below_the_path_as_well(tmp_path: Path, below: Below) -> None:
    below.on("/v2/", answers(401, WWW_Authenticate='Basic realm="artifactory"'))
    below.on("/v2/app/tags/list", answers(401), well_behaved)
    with opened(tmp_path, f"http://{below.host}{API}/v2", {"prefix": "app"}) as run:
        report = mirror(run)
    assert "it requires a user and password" in report.problems[0], "which is what the challenge says"
    assert below.requests("GET", "/v2/")
