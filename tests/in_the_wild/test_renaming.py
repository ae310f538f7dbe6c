"""What `tags.rename` refuses, and that a poll of renamed tags ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.reference import RepositoryName
from tests.in_the_wild.renamed_tags import APP
from tests.profiles.support import problems
from tests.tasks.runs import mirror, opened, visible

if TYPE_CHECKING:
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
