"""`indexChildren: each`, and upstreams that hide a platform from who judges: what is copied was judged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from profiles.loader import parse_profile
from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from tasks.stored.audit import audit
from tasks.stored.images import StoredImages
from tests.in_the_wild.cases.odd_content import OCTETS
from tests.support_misbehaving import says, well_behaved
from tests.tasks.runs import EVERYTHING, mirror, opened, rows, store_of, visible
from tests.tasks.test_verifying import OURS, policy, sign

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

FOO: Final = "application/vnd.foo+json"
UNSIGNED: Final = "it has no signature"


def untyped(body: bytes) -> bytes:
    """The document, which does not say what it is."""
    return json.dumps({key: value for key, value in json.loads(body).items() if key != "mediaType"}).encode()


def arranged(
    upstream: Misbehaving, called: str, served: str, *, typed: bool = False, root: str = media_types.OCI_INDEX
) -> Descriptor:
    """A signed index under `app:1`, whose one child has no signature; the child.

    `called`: the child's type in the index; `served`: in the answer; `typed`: the child's body has its own.
    """
    body = upstream.add_image("app", "child", (b"evil",)).body
    child = upstream.add_manifest("app", "child", body if typed else untyped(body), served)
    upstream.repositories["app"].tags.remove("child")
    index = {"schemaVersion": 2, "manifests": [Descriptor(called, child.digest, child.size).to_json()]}
    sign(upstream, upstream.add_manifest("app", "1", json.dumps(index).encode(), root).digest, OURS)
    return child


def strict(upstream: Misbehaving, mode: str = "enforce") -> dict[str, Any]:
    made: dict[str, Any] = policy(upstream, mode)
    made["verify"]["rules"][0]["signatures"]["indexChildren"] = "each"
    return made


CASES: Final = [
    pytest.param({"called": OCTETS, "served": FOO}, id="the answer gives the child an unknown type"),
    pytest.param({"called": FOO, "served": FOO}, id="the index does too"),
    pytest.param(
        {"called": OCTETS, "served": media_types.OCI_INDEX, "typed": True},
        id="the answer contradicts the child",
    ),
    pytest.param(
        {"called": media_types.OCI_MANIFEST, "served": media_types.OCI_MANIFEST, "root": FOO},
        id="the index is of an unknown type",
    ),
]


@pytest.mark.parametrize("case", CASES)
def test_a_child_that_is_copied_was_judged(
    tmp_path: Path, upstream: Misbehaving, case: dict[str, Any]
) -> None:
    child = arranged(upstream, **case)
    with opened(tmp_path, f"http://{upstream.host}", more=strict(upstream)) as run:
        report = mirror(run)
    assert UNSIGNED in rows(report)["app:1"].reason
    assert "app:1" not in visible(store_of(tmp_path))
    sign(upstream, child.digest, OURS)
    with opened(tmp_path, f"http://{upstream.host}", more=strict(upstream)) as run:
        mirror(run)
    assert "app:1" in visible(store_of(tmp_path))


@pytest.mark.parametrize("case", CASES[1::2])
def test_an_audit_judges_it_too(tmp_path: Path, upstream: Misbehaving, case: dict[str, Any]) -> None:
    arranged(upstream, **case)
    with opened(tmp_path, f"http://{upstream.host}", more=policy(upstream)) as run:
        mirror(run)
    entry = {"name": "registry1", "urls": [f"http://{upstream.host}"], "content": [EVERYTHING]}
    made = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}, **strict(upstream)}
    profile = parse_profile(json.dumps(made), tmp_path / "profile.json").profile
    found = {each.image.name: each.reason for each in audit(StoredImages(profile, store_of(tmp_path)))}
    assert UNSIGNED in found["app:1"]


@pytest.mark.parametrize("mode", ["enforce", "warn"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_child_that_cannot_be_read_when_it_is_judged(
    tmp_path: Path, upstream: Misbehaving, mode: str, *, signed: bool
) -> None:
    """Gone when it is judged, and there when it is copied."""
    child = arranged(upstream, OCTETS, media_types.OCI_MANIFEST)
    if signed:
        sign(upstream, child.digest, OURS)
    path = f"/v2/app/manifests/{child.digest}"
    upstream.on(path, says(404, "MANIFEST_UNKNOWN", "not now"), well_behaved)
    with opened(tmp_path, f"http://{upstream.host}", more=strict(upstream, mode)) as run:
        row = rows(mirror(run))["app:1"]
    assert ("app:1" in visible(store_of(tmp_path))) == (mode == "warn")
    assert "cannot be read as a manifest" in row.reason + row.verdict
