"""The reference, the schema and the examples of the documents are what the models are."""

from __future__ import annotations

import json
import re

import pytest
from pydantic import BaseModel

from profiles.docs.reference import json_schema, render_reference
from profiles.loading.key_names import sections
from profiles.matching import local_name
from profiles.model.profile import Profile
from profiles.patterns.select_expression import DOCUMENT
from profiles.patterns.versions import VersionRange
from tests.profiles.support import ROOT, load, rule, warnings

_COMING = (ROOT / "docs/coming-from-zot.md").read_text()
_BLOCKS = re.findall(r"^```(json|yaml)\n(.*?)^```", _COMING, re.DOTALL | re.MULTILINE)


def test_the_reference_is_fresh() -> None:
    fresh = (ROOT / "docs/profile.md").read_text() == render_reference()
    assert fresh, "docs/profile.md is stale; make docs writes it anew"


def test_every_field_says_what_it_means() -> None:
    for section, model in sections():
        assert issubclass(model, BaseModel)
        assert model.__doc__, section
        for name, info in model.model_fields.items():
            assert info.description, f"{section}.{name}"
            assert info.description.endswith((".", ".)")), f"{section}.{name}"


@pytest.mark.parametrize(("kind", "text"), _BLOCKS)
def test_the_examples_for_those_who_come_from_zot_load(kind: str, text: str) -> None:
    assert load(text, f"example.{kind}").profile.sync.registries


def test_what_the_page_lists_as_unused_is_warned_about_by_name() -> None:
    text = next(text for kind, text in _BLOCKS if "scheduler" in text)
    found = " ".join(warnings(text))
    for key in ("realm", "compat", "output", "scheduler", "metrics", "scrub"):
        assert re.search(rf"\b{key}: ", found), key


def test_the_rows_of_the_reference_are_true() -> None:
    rows = re.findall(
        r"^\| `(.*?)` \| `(.*?)` \| true \| `(.*?)` \| `(.*?)` \|$", render_reference(), re.MULTILINE
    )
    assert len(rows) == 4
    for prefix, destination, upstream, here in rows:
        assert local_name(rule(prefix, destination, strip=True), upstream) == here
    for text in re.findall(
        r"`([<>^~\d][^`a-z-]*?)`", render_reference().split("Versions in tags")[1].split("##")[0]
    ):
        assert not VersionRange.parse(text.replace("\\", "")).empty


def test_the_schema_names_every_key() -> None:
    text = json.dumps(json_schema())
    for section, model in sections():
        for info in model.model_fields.values():
            assert f'"{info.alias}"' in text, f"{section}.{info.alias}"
    assert json_schema()["additionalProperties"] is False


def test_descriptions_name_what_select_can_look_at() -> None:
    content = dict(sections(Profile))["sync.registries[].content[]"]
    for name in DOCUMENT:
        assert name in (content.model_fields["select"].description or "")
