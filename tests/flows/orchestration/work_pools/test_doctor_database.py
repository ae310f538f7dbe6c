"""`doctor` on the database of the Prefect server of a farm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flows.doctor.machine import MachineCheck
from tests.flows.orchestration.databases import parsed, prefect_with

if TYPE_CHECKING:
    from pathlib import Path

    from flows.doctor.findings import Finding

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def database(folder: Path, url: str | None, **entry: Any) -> list[Finding]:
    """What is found of it."""
    environment = {"PREFECT_API_URL": url} if url else {}
    found = MachineCheck(parsed(folder, **entry), environment).findings()
    return [each for each in found if each.check == "Prefect database"]


@pytest.mark.parametrize(
    ("driver", "status", "outcome", "said"),
    [
        pytest.param("sqlite+aiosqlite", 200, "failed", "SQLite answers 503 to some of 4", id="SQLite"),
        pytest.param("postgresql+asyncpg", 200, "ok", "postgresql", id="PostgreSQL"),
        pytest.param(None, 200, "note", "the server does not tell which it uses", id="it does not tell"),
    ],
)
def test_a_farm_needs_postgresql(
    tmp_path: Path, driver: str | None, status: int, outcome: str, said: str
) -> None:
    with prefect_with(driver, status) as client:
        [found] = database(tmp_path, str(client.api_url), shards=4)
    assert found.outcome == outcome
    assert said in found.found
    assert ("PREFECT_SERVER_DATABASE_CONNECTION_URL" in found.advice) == (outcome != "ok")


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        pytest.param({"shards": 3}, 200, id="three runs at once are no problem"),
        pytest.param({"shards": 4}, 404, id="Prefect Cloud has no such route"),
        pytest.param({"shards": 4}, 401, id="it asks for a login"),
    ],
)
def test_nothing_is_said_where_it_does_not_matter_or_cannot_be_known(
    tmp_path: Path, entry: dict[str, Any], status: int
) -> None:
    with prefect_with("sqlite+aiosqlite", status) as client:
        assert database(tmp_path, str(client.api_url), **entry) == []
    assert database(tmp_path, "http://127.0.0.1:1/api", **entry) == [], "nobody is there"
    assert database(tmp_path, None, **entry) == [], "the own server is for one machine"


def test_a_real_server_does_not_tell_by_default(prefect_url: str, tmp_path: Path) -> None:
    [found] = database(tmp_path, prefect_url, shards=4)
    assert found.outcome == "note"
