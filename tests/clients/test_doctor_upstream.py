"""What `mirrorflow doctor` finds about an upstream registry, and how little it asks for that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.doctor.findings import CheckStatus, Finding, Subject
from flows.doctor.registry_probe import PingResponse
from flows.doctor.upstream import UpstreamCheck, clock
from profiles.loader import parse_profile
from tasks.upstream.login.credentials import NoCredentials
from tests.support_behaviours import get_only
from tests.support_misbehaving import (
    Misbehaving,
    answers,
    json_answer,
    redirects,
    says,
    well_behaved,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.registries import Registry

APP = "/v2/library/app"


def upstream_findings(tmp_path: Path, entry: dict[str, Any], wanted: str = "") -> dict[str, Finding]:
    text = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}}
    found = parse_profile(json.dumps(text), tmp_path / "profile.json").profile.sync.registries[0]
    check = UpstreamCheck(found, found.urls[0], NoCredentials(), None, wanted)
    return {finding.check: finding for finding in check.findings()}


def test_a_registry_that_does_all(tmp_path: Path, sample_upstream: Registry) -> None:
    entry = {"urls": [sample_upstream.url], "content": [{"prefix": "library/nginx"}, {"prefix": "apps/*"}]}
    found = upstream_findings(tmp_path, entry)
    assert {each.outcome for each in found.values()} == {CheckStatus.OK}, found
    assert list(found) == [
        *("reachable", "login", "catalog", "tags", "manifest", "rate limit", "referrers", "range")
    ]
    assert "pages by Link" in found["tags"].found
    assert found["referrers"].found.startswith("API")
    assert sum(sample_upstream.requests.counts().values()) <= 12


@pytest.mark.parametrize(
    ("path", "behaviour", "expected"),
    [
        pytest.param(
            "/v2/", answers(404), ("reachable", CheckStatus.FAILED, "answers 404"), id="no registry"
        ),
        pytest.param(
            "/v2/",
            answers(401),
            ("reachable", CheckStatus.OK, "without a challenge"),
            id="no challenge",
        ),
        pytest.param(
            "/v2/_catalog", says(401, "DENIED", "no"), ("catalog", CheckStatus.FAILED, "401"), id="no catalog"
        ),
        pytest.param(
            f"{APP}/tags/list",
            says(404, "NAME_UNKNOWN", "?"),
            ("tags", CheckStatus.FAILED, "404"),
            id="no tags",
        ),
        pytest.param(
            f"{APP}/manifests/1.0", get_only(405), ("manifest", CheckStatus.NOTE, "no HEAD"), id="no HEAD"
        ),
        pytest.param(
            f"{APP}/manifests/1.0", get_only(404), ("manifest", CheckStatus.NOTE, "no HEAD"), id="404 to HEAD"
        ),
        pytest.param(
            f"{APP}/manifests/1.0", answers(404), ("manifest", CheckStatus.FAILED, "404"), id="no manifest"
        ),
        pytest.param(
            f"{APP}/manifests/1.0",
            answers(200, b"x", Content_Type="a/b"),
            ("manifest", CheckStatus.NOTE, "no Docker-Content-Digest"),
            id="no digest",
        ),
        pytest.param("", well_behaved, ("range", CheckStatus.NOTE, "starts again"), id="no Range"),
        pytest.param("", well_behaved, ("referrers", CheckStatus.OK, "fallback tag"), id="no referrers API"),
    ],
)
def test_what_an_upstream_lacks(
    tmp_path: Path,
    sick: Misbehaving,
    path: str,
    behaviour: Callable[..., None],
    expected: tuple[str, CheckStatus, str],
) -> None:
    check, outcome, words = expected
    sick.on(path, behaviour)
    entry = {"urls": [f"http://{sick.host}"], "content": [{"prefix": "**"}, {"prefix": "library/app"}]}
    found = upstream_findings(tmp_path, entry)[check]
    assert found.outcome is outcome, found
    assert words in found.found
    assert found.advice or outcome is CheckStatus.OK or check in ("manifest", "range")


@pytest.mark.parametrize(
    ("entry", "asked"),
    [
        pytest.param({"content": [{"prefix": "**"}]}, {"_catalog", "tags", "referrers"}, id="all"),
        pytest.param({"content": [{"prefix": "library/app"}]}, {"tags", "referrers"}, id="one repository"),
        pytest.param({"content": [{"images": ["library/app:1.0"]}]}, {"referrers"}, id="one image"),
        pytest.param(
            {"content": [{"images": ["library/app:1.0"]}], "referrers": {"follow": False}},
            set(),
            id="one image alone",
        ),
        pytest.param(
            {"content": [{"images": ["library/app:1.0"], "referrers": {"follow": False}}]},
            set(),
            id="the rule says so",
        ),
        pytest.param(
            {"content": [{"images": ["library/app:1.0"]}], "onDemand": True, "tagListing": "merged"},
            {"tags", "referrers"},
            id="tags are listed on demand",
        ),
    ],
)
def test_only_what_the_profile_wants_is_tried(
    tmp_path: Path, sick: Misbehaving, entry: dict[str, Any], asked: set[str]
) -> None:
    """A registry that forbids the rest is right for this profile."""
    sick.add_image("library/app", "1.0", (b"layer",))
    found = upstream_findings(tmp_path, {"urls": [f"http://{sick.host}"], **entry})
    paths = {"_catalog": "/_catalog", "tags": "/tags/list", "referrers": "/referrers/"}
    assert {name for name, path in paths.items() if sick.requests(path=path)} == asked
    assert not [each for each in found.values() if each.outcome is CheckStatus.FAILED]


def test_a_metered_registry_is_asked_for_no_manifest(tmp_path: Path, sick: Misbehaving) -> None:
    image = sick.add_image("library/app", "1.0", (b"layer",))
    limits = {"RateLimit_Limit": "100;w=21600", "RateLimit_Remaining": "1;w=21600"}
    path = "/v2/library/app/manifests/1.0"
    headers = {"Docker_Content_Digest": image.manifest.digest, "Content_Type": "a/b"}
    sick.on(path, answers(200, b"x", **headers, **limits))
    entry = {"urls": [f"http://{sick.host}"], "content": [{"prefix": "library/app"}]}
    found = upstream_findings(tmp_path, entry)
    assert found["rate limit"].outcome is CheckStatus.NOTE
    assert "1 of 100 pulls are left" in found["rate limit"].found
    assert found["range"].outcome is CheckStatus.NOTE
    assert not sick.requests("GET", "/manifests/")
    assert not sick.requests("GET", "/blobs/")


def test_where_blobs_come_from_is_said(tmp_path: Path, sick: Misbehaving) -> None:
    """Firewalls let the registry through, and forget the host that it sends clients to."""
    with Misbehaving("127.0.0.2") as storage:
        layer = storage.add_image("library/app", "1.0", (b"layer",)).config.digest
        sick.on(
            f"/v2/library/app/blobs/{layer}", redirects(f"http://{storage.host}/v2/library/app/blobs/{layer}")
        )
        entry = {"urls": [f"http://{sick.host}"], "content": [{"images": ["library/app:1.0"]}]}
        assert "blobs come from 127.0.0.2" in upstream_findings(tmp_path, entry)["range"].found


def test_nothing_is_known_of_a_registry_without_a_catalog(tmp_path: Path, sick: Misbehaving) -> None:
    sick.on("/v2/_catalog", answers(401))
    entry = {"urls": [f"http://{sick.host}"], "onDemand": True}
    found = upstream_findings(tmp_path, entry)
    assert found["catalog"].found == "none, and none is needed"
    assert "--image" in found["content"].advice
    assert "manifest" in upstream_findings(tmp_path, entry, "library/app:1.0")


def test_what_an_upstream_lists_is_neither_a_path_nor_a_command_to_the_terminal(
    tmp_path: Path, sick: Misbehaving
) -> None:
    sick.on(f"{APP}/tags/list", json_answer({"tags": ["../../../../admin", "\x1b[2J", "1.0"]}))
    sick.on(f"{APP}/manifests/1.0", says(403, "DENIED", "no \x1b[31m" + "x" * 2000))
    entry = {"urls": [f"http://{sick.host}"], "content": [{"prefix": "library/app"}]}
    found = upstream_findings(tmp_path, entry)
    assert found["manifest"].outcome is CheckStatus.FAILED
    assert "library/app:1.0" in found["manifest"].found
    assert all(each.found.isprintable() and len(each.found) <= 501 for each in found.values())
    assert not sick.requests(path="admin")
    sick.on("/v2/_catalog", json_answer({"repositories": ["../../v2/../admin"]}))
    anything = upstream_findings(tmp_path, {"urls": [f"http://{sick.host}"], "onDemand": True})
    assert anything["catalog"].found == "0 repositories"
    assert anything["content"].outcome is CheckStatus.NOTE
    refused = upstream_findings(tmp_path, entry, "../admin:1")
    assert refused["content"].outcome is CheckStatus.FAILED
    assert not sick.requests(path="admin")


def test_a_clock_that_is_wrong() -> None:
    headers = httpx.Headers({"Date": "Mon, 01 Jan 2024 00:00:00 GMT"})
    [found] = clock(Subject("up"), PingResponse(200, headers, 0.1))
    assert "ahead of it" in found.found
    assert list(clock(Subject("up"), PingResponse(200, httpx.Headers({"Date": "noon"}), 0.1))) == []
