"""What the mirror itself writes to the audit log: verdicts, tags that it sets and removes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from flows.direct_run import run_direct
from tests.support.documents import ROOT
from tests.support_misbehaving import Misbehaving
from tests.tasks.trust.attacker import policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENT = (ROOT / "docs/audit.md").read_text()


class Mirror:
    """`run` gives the lines that a run has added."""

    def __init__(self, folder: Path, upstream: Misbehaving) -> None:
        self.folder, self.upstream = folder, upstream
        upstream.add_image("app", "1")

    def run(self, log: str = "audit.log", *, prune: bool = False, **more: Any) -> list[dict[str, Any]]:
        rule = {"prefix": "app", **({"prune": {"after": 0.001, "maxShare": "100%"}} if prune else {})}
        entry = {"name": "up", "urls": [f"http://{self.upstream.host}"], "content": [rule]}
        document = {
            "storage": {"rootDirectory": "store"},
            "log": {"audit": log},
            "sync": {"registries": [entry]},
            **more,
        }
        path = self.folder / "profile.json"
        path.write_text(json.dumps(document))
        self.ended = run_direct(path, "up")
        written = self.folder / log
        found = [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []
        if found:
            written.write_text("")
        return found


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with Misbehaving() as upstream:
        yield Mirror(tmp_path, upstream)


def texts(lines: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['by']} {each['event']} {each['outcome']} {each['repository']}:{each['reference']}"
        for each in lines
    ]


def test_a_tag_that_a_run_sets_is_told_once(mirror: Mirror) -> None:
    (line,) = lines = mirror.run()
    assert texts(lines) == ["sync publish done app:1"]
    assert (line["registry"], line["upstream"]) == ("up", "app:1")
    assert line["digest"] in mirror.upstream.repositories["app"].manifests
    assert mirror.run() == []


def test_a_refused_image_is_told_with_the_verdict_and_is_not_published(mirror: Mirror) -> None:
    (line,) = lines = mirror.run(**policy())
    assert texts(lines) == ["sync verdict refused app:1"]
    assert line["verdict"] == "refused: it has no signature"
    assert "not admitted by verify.rules[0]" in line["reason"]


def test_an_image_that_a_policy_only_warns_of_is_admitted(mirror: Mirror) -> None:
    lines = mirror.run(**policy(mode="warn"))
    assert texts(lines) == ["sync verdict admitted app:1", "sync publish done app:1"]
    assert lines[0]["policy"]


def test_a_changed_policy_is_told_as_what_judged(mirror: Mirror) -> None:
    mirror.run()
    lines = mirror.run(**policy())
    assert texts(lines)[0] == "policyChange verdict refused app:1"


def test_a_tag_that_goes_with_its_upstream_is_told(mirror: Mirror) -> None:
    mirror.upstream.add_image("app", "2", (b"two",))
    mirror.run(prune=True)
    mirror.upstream.repositories["app"].tags.remove("2")
    del mirror.upstream.repositories["app"].manifests["2"]
    told = [line for _ in range(3) for line in texts(mirror.run(prune=True))]
    assert told == ["sync prune done app:2"]


def test_a_log_that_cannot_be_written_is_an_error_before_anything_is_done(mirror: Mirror) -> None:
    mirror.run("no/such/folder/audit.log")
    state, message = mirror.ended
    assert state == "FAILED"
    assert "cannot write log.audit" in message
    assert not list((mirror.folder / "store/repos").glob("*"))


def test_every_field_is_documented(mirror: Mirror) -> None:
    mirror.upstream.add_image("app", "2", (b"two",))
    lines = mirror.run() + mirror.run(**policy()) + mirror.run(**policy(mode="warn"))
    tables = DOCUMENT.partition("## Every line\n")[2]
    what_clients_did = tables.partition("## What a client did\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", tables.replace(what_clients_did, ""), re.MULTILINE)
    known = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    assert {field for line in lines for field in line} <= known
