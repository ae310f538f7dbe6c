"""What `tags.rename` refuses, and that a poll of renamed tags ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.media_types import OCI_MANIFEST
from registry_server.oci.reference import RepositoryName
from tests.in_the_wild.cases.renamed_tags import APP
from tests.profiles.support import problems
from tests.support_misbehaving import says, well_behaved
from tests.tasks.runs import assert_complete, mirror, opened, store_of, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

RENAME = {"regex": "v(.*)", "to": "$1"}


def text(rename: str, entry: str = "pollInterval: 6h", rest: str = "", keys: str = "") -> str:
    content = f"content: [{{prefix: a, tags: {{rename: {rename}}}{keys}}}]"
    return (
        f"storage: {{rootDirectory: /s}}\nsync: {{registries: [{{urls: [r], {entry}, {content}}}]}}\n{rest}"
    )


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (
            text('{regex: "v(.*)", to: "$2"}'),
            "rename.to: '$2' is no group of regex; write one of '$0', '$1', or",
        ),
        (
            text('{regex: "(?P<a>.*)", to: "${b}"}'),
            "'${b}' is no group of regex; write one of '$0', '$1', '${a}'",
        ),
        (text('{regex: "v", to: "5$"}'), "'$' is no group of regex"),
        (text('{regex: "(a+)+", to: "$1"}'), "rename.regex: '(a+)+' repeats what repeats"),
        (text('{regex: "(", to: ""}'), "rename.regex: '(' is not a regular expression"),
        (text('{regex: "v(.*)", to: "$1"}', "onDemand: true"), "cannot be turned back into the upstream's"),
        (
            text('{regex: "v(.*)", to: "$1"}', keys=", prune: {after: 30d}"),
            "prune compares tags with those",
        ),
        (
            text(
                '{regex: "v(.*)", to: "$1"}',
                rest="verify: {rules: [{match: ['**'], tags: [v*], mode: skip}]}",
            ),
            "a rule of verify looks at tags",
        ),
    ],
)
def test_a_renaming_that_cannot_hold_is_refused(profile: str, said: str) -> None:
    [problem] = problems(profile)
    assert said in problem


@pytest.mark.parametrize("only", [(), (f"{APP}:v1",), (f"{APP}:1",)], ids=["all", "theirs", "ours"])
def test_what_is_here_under_its_new_name_costs_one_head(
    upstream: Misbehaving, tmp_path: Path, only: tuple[str, ...]
) -> None:
    upstream.add_image(APP, "v1")
    rule = {"prefix": "**", "tags": {"rename": RENAME}}
    for _ in range(2):
        upstream.seen.clear()
        with opened(tmp_path, f"http://{upstream.host}", rule, only=only) as run:
            assert mirror(run).complete
            assert visible(run.store) == [f"{APP}:1"]
    assert [str(each) for each in upstream.requests(path="manifests")] == [f"HEAD /v2/{APP}/manifests/v1"]


def test_a_renamed_tag_is_gone_only_when_the_one_that_it_came_from_is(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    for tag in ("v1", "v2"):
        upstream.add_image(APP, tag)
    assert _gone(upstream, tmp_path) == []
    assert _gone(upstream, tmp_path) == []
    upstream.repositories[APP].tags.remove("v2")
    assert _gone(upstream, tmp_path) == ["2"]


def _gone(upstream: Misbehaving, folder: Path) -> list[str]:
    """What a run says is gone upstream."""
    rule = {"prefix": "**", "tags": {"rename": RENAME}}
    with opened(folder, f"http://{upstream.host}", rule) as run:
        mirror(run)
        poll = run.store.repository(RepositoryName(APP)).poll(run.entry.name)
    assert poll is not None
    return list(poll.gone)


def _by_tag_only(upstream: Misbehaving) -> None:
    image = upstream.add_image(APP, "v1", layers=(b"right",))
    upstream.on(f"/v2/{APP}/manifests/{image.manifest.digest}", says(404, "MANIFEST_UNKNOWN", "by tag only"))


def _moved(upstream: Misbehaving) -> None:
    """Between the HEAD and the GET, and what it named is gone."""
    before = upstream.add_image(APP, "v1", layers=(b"before",))
    headers = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": before.manifest.digest}
    path = f"/v2/{APP}/manifests/v1"
    upstream.on(path, lambda exchange: exchange.answer(200, before.body, headers), well_behaved)
    upstream.add_image(APP, "v1", layers=(b"right",))
    del upstream.repositories[APP].manifests[before.manifest.digest]


@pytest.mark.parametrize("behave", [_by_tag_only, _moved])
def test_a_renamed_tag_is_asked_for_by_its_name_upstream(
    upstream: Misbehaving, tmp_path: Path, behave: Callable[[Misbehaving], None]
) -> None:
    behave(upstream)
    rule = {"prefix": APP, "tags": {"regex": "v.*", "rename": RENAME}}
    with opened(tmp_path, f"http://{upstream.host}", rule) as run:
        report = mirror(run)
    assert report.message == "1 of 1 images"
    assert_complete(store_of(tmp_path), f"{APP}:1")
