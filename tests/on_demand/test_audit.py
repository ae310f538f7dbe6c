"""The audit log of what is fetched for clients: the verdict, and the tag that is set behind them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from registry_server.oci.companion_tags import is_companion_tag
from tests.on_demand.mirrors import document, mirroring
from tests.support_misbehaving import misbehaving
from tests.tasks.test_verifying import OURS, policy, sign

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_client_brings_in_is_told_with_the_verdict(tmp_path: Path) -> None:
    with misbehaving() as upstream:
        good = upstream.add_image("app", "good", layers=(b"good",)).manifest.digest
        sign(upstream, good, OURS)
        upstream.add_image("app", "evil", layers=(b"evil",))
        more: dict[str, Any] = {**policy(upstream), "log": {"audit": str(tmp_path / "audit.log")}}
        with mirroring(tmp_path, document(f"http://{upstream.host}"), more=more) as mirror:
            assert mirror.client.get("/v2/app/manifests/good").status_code == 200
            assert mirror.client.get("/v2/app/manifests/evil").status_code != 200
            mirror.work.wait()
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    mirrored = [each for each in lines if each["by"] == "onDemand"]
    tags = [each for each in mirrored if not is_companion_tag(each["reference"])]  # signatures have lines too
    told = {(each["event"], each["outcome"], each["reference"]) for each in tags}
    assert told == {
        ("verdict", "admitted", "good"),
        ("publish", "done", "good"),
        ("verdict", "refused", "evil"),
    }
