"""Adding content rules to a profile's text: what was there stays, to the last comment."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiles.additions import Addition, ProfileNotEditable, add_rules, rendered, write_rules
from profiles.loader import parse_profile

PATH = Path("profile.yaml")
RULE = {"images": ["app/web:1"]}
NEW = Addition("quay", [{"images": ["a/b:2"]}], {"name": "quay", "urls": ["https://quay.io"]}, "why")
BLOCK = """\
# My mirror
storage:
  rootDirectory: ./store   # on the big disk
sync:
  registries:
    - name: up  # ours
      urls: ["https://registry.example"]
      content:
        # the shop
        - prefix: shop/*   # all of it

    # the other one
    - name: other
      urls: ["https://other.example"]
      content: [{prefix: team/app}]  # in one line
http:
  port: 8080
"""


def test_a_rule_is_put_behind_the_last_one_of_its_entry() -> None:
    edited = add_rules(BLOCK, PATH, [Addition("up", [RULE], comment="why")])
    assert edited == BLOCK.replace(
        "# all of it\n", "# all of it\n        # why\n        - images:\n            - app/web:1\n"
    )


def test_a_rule_is_put_into_a_list_in_one_line() -> None:
    edited = add_rules(BLOCK, PATH, [Addition("other", [RULE])])
    assert edited == BLOCK.replace("{prefix: team/app}]", '{prefix: team/app}, {"images": ["app/web:1"]}]')


def test_an_entry_is_put_behind_the_last_one() -> None:
    edited = add_rules(BLOCK, PATH, [NEW])
    assert "# in one line\n    # why\n    - name: quay\n      urls:\n" in edited
    assert edited.endswith("http:\n  port: 8080\n")
    assert parse_profile(edited, PATH).profile.entry_names() == ("up", "other", "quay")


def test_several_additions_are_made_at_once() -> None:
    edited = add_rules(BLOCK, PATH, [Addition("up", [RULE, RULE]), Addition("other", [RULE]), NEW])
    profile = parse_profile(edited, PATH).profile
    assert [len(entry.content) for entry in profile.sync.registries] == [3, 2, 1]
    for line in BLOCK.splitlines():
        assert line.partition("]")[0] in edited


_HEAD = "storage: {rootDirectory: s}\n"
_UP = "name: up, urls: ['https://r.example']"


@pytest.mark.parametrize(
    ("text", "addition"),
    [
        pytest.param(_HEAD, NEW, id="without sync"),
        pytest.param(_HEAD + "sync:\n  enable: true\n", NEW, id="without registries"),
        pytest.param(_HEAD + "sync: {enable: true}\n", NEW, id="without registries, in one line"),
        pytest.param(_HEAD + "sync: {registries: []}", NEW, id="an empty list, and no newline at the end"),
        pytest.param(
            _HEAD + f"sync: {{registries: [{{{_UP}}},]}}\n", NEW, id="a comma at the end of the list"
        ),
        pytest.param(
            _HEAD + f"sync: {{registries: [{{{_UP}}}]}}\n",
            Addition("up", [RULE]),
            id="an entry without content",
        ),
        pytest.param(
            _HEAD + "sync:\n  registries:\n  - name: up\n    urls:\n    - https://r.example\n",
            Addition("up", [RULE]),
            id="an entry without content, in lines",
        ),
        pytest.param(
            _HEAD + "sync:\n  registries:\n  - name: up\n    urls: [https://r.example]\n    content:\n"
            "    - prefix: a\n      tags:\n        regex: >-\n          v1.*\n\n# the end\n",
            Addition("up", [RULE]),
            id="a folded text, and dashes that are not indented",
        ),
        pytest.param(
            '{"storage": {"rootDirectory": "s"}, "extensions": {"sync": {"registries": [\n  {"urls": '
            '["https://r.example"], "content": [{"prefix": "a"}]}\n]}}}',
            Addition("r.example", [RULE]),
            id="a configuration of zot",
        ),
        pytest.param(
            "Storage: {RootDirectory: s}\nSync:\n  Registries:\n    - Name: up\n      URLs: ['https://r.example']\n"
            "      Content:\n        - Prefix: a\n",
            Addition("up", [RULE]),
            id="keys in another case",
        ),
        pytest.param(
            _HEAD.replace("\n", "\r\n")
            + "sync:\r\n  registries:\r\n    - name: up\r\n      urls: ['https://r.example']\r\n"
            "      content:\r\n        - prefix: a\r\n",
            Addition("up", [RULE]),
            id="lines that end as on Windows",
        ),
    ],
)
def test_the_result_is_the_old_profile_and_the_addition(text: str, addition: Addition) -> None:
    before = parse_profile(text, PATH).profile
    after = parse_profile(add_rules(text, PATH, [addition]), PATH).profile
    entry = next(each for each in after.sync.registries if each.name == addition.entry)
    assert [str(image) for image in entry.content[-1].images] == addition.rules[-1]["images"]
    assert after.storage == before.storage
    assert {*before.entry_names(), addition.entry} == {*after.entry_names()}


@pytest.mark.parametrize(
    ("path", "text", "addition", "message"),
    [
        pytest.param(
            Path("p.toml"), "[storage]\nrootDirectory = 's'\n", NEW, "TOML cannot be added to", id="TOML"
        ),
        pytest.param(
            PATH,
            _HEAD + "sync:\n  registries:\n    - name: up\n      urls: [https://a.example]\n"
            "      content: &rules\n        - prefix: a\n"
            "    - name: two\n      urls: [https://b.example]\n      content: *rules\n",
            Addition("up", [RULE]),
            "in several places",
            id="a list that two entries share",
        ),
        pytest.param(
            PATH,
            _HEAD + f"sync: {{registries: [{{{_UP}, content: [{{prefix: a}}]}}]}}\n",
            Addition("up", [{"images": ["Upper:1"]}]),
            "would not load",
            id="a rule that is refused",
        ),
    ],
)
def test_what_cannot_be_added_to_is_refused(path: Path, text: str, addition: Addition, message: str) -> None:
    with pytest.raises(ProfileNotEditable, match=message):
        add_rules(text, path, [addition])


def test_what_is_printed_to_be_pasted_is_what_would_be_written() -> None:
    assert rendered(NEW).splitlines()[:3] == ["# why", "- name: quay", "  urls:"]
    assert rendered(Addition("up", [RULE])) == "- images:\n    - app/web:1\n"


def test_the_file_keeps_its_mode_and_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "profile.yaml"
    real.write_text(BLOCK)
    real.chmod(0o640)
    link.symlink_to(real)
    write_rules(link, [NEW])
    assert link.is_symlink()
    assert "name: quay" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["profile.yaml", "real.yaml"]


def test_a_refused_addition_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(BLOCK)
    with pytest.raises(ProfileNotEditable):
        write_rules(path, [Addition("up", [{"images": ["Upper:1"]}])])
    assert path.read_text() == BLOCK
