"""Events on a real Prefect server: the documented automations are registered there, and one of them fires."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.reporting.notify.conditions import Condition
from flows.reporting.notify.delivery import NotDelivered
from flows.reporting.notify.notifier import Notifier
from flows.reporting.notify.prefect_events import emit
from flows.reporting.notify.told import Change, Message, Phase
from profiles.model.notify import NotifyEvent
from tests.support_misbehaving import Misbehaving, answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parents[3]
AUTOMATIONS = ROOT / "deploy/prefect/automations.yaml"
REFUSED = Condition(NotifyEvent.IMAGE_REFUSED, "hub", "it has no signature", "app:1", f"sha256:{'1' * 64}")


def message(*phases: Phase, name: str = "8c0a8a0e") -> Message:
    now = time.time()
    return Message(name, now, tuple(Change(each, REFUSED, now, now) for each in phases))


def environment(url: str, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_API_URL": url, "PREFECT_HOME": str(home)}


@pytest.fixture
def hook() -> Iterator[Misbehaving]:
    with Misbehaving() as found:
        found.on("/hook", answers(200))
        yield found


@pytest.fixture
def block(client: SyncPrefectClient, hook: Misbehaving) -> str:
    """The id of a block that notifies by a webhook."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    made = CustomWebhookNotificationBlock(
        name="hook", url=f"http://{hook.host}/hook", json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    return str(made.save("mirror-hook", overwrite=True))


def test_the_documented_automations_are_registered_and_fire(
    prefect_url: str, client: SyncPrefectClient, block: str, hook: Misbehaving, tmp_path: Path
) -> None:
    path = tmp_path / "automations.yaml"
    path.write_text(AUTOMATIONS.read_text().replace("BLOCK_ID", block))
    where = environment(prefect_url, tmp_path)
    create = [sys.executable, "-m", "prefect", "automation", "create", "--from-file", str(path)]
    done = subprocess.run(create, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = ["mirror: an image is refused", "mirror: a registry entry has failed for an hour"]
    made = [found for name in names for found in client.read_automations_by_name(name)]
    try:
        assert [each.name for each in made] == names
        deadline = time.monotonic() + 60
        while not hook.seen and time.monotonic() < deadline:  # the server reads its automations now and then
            emit(message(Phase.BEGAN, name=f"at {time.monotonic()}"), "urn:x", timeout=10, environment=where)
            time.sleep(1)
        body = hook.seen[0].body.decode()
        assert "refused: app:1" in body
        assert "it has no signature" in body
    finally:
        for each in made:
            client.delete_automation(each.id)


def test_a_prefect_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    where = environment("http://127.0.0.1:1/api", tmp_path)
    with pytest.raises(NotDelivered, match="the Prefect server did not take events"):
        emit(message(Phase.BEGAN), "urn:x", timeout=5, environment=where)


def test_without_a_prefect_server_its_receiver_is_left_alone(tmp_path: Path) -> None:
    from profiles.loader import load_profile
    from registry_server.store.store import Store

    path = tmp_path / "profile.yaml"
    path.write_text("storage: {rootDirectory: store}\nnotify: [{name: events, format: prefect}]\n")
    store = Store.open(tmp_path / "store")
    profile = load_profile(path).profile
    assert Notifier(profile, store, {}).receivers == []
    assert len(Notifier(profile, store, {"PREFECT_API_URL": "http://127.0.0.1:1/api"}).receivers) == 1
