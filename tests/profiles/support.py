"""Short ways to make what the tests of this folder are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from profiles.errors import ProfileInvalid
from profiles.loader import LoadedProfile, parse_profile
from profiles.model.content_rule import ContentRule
from profiles.model.sync import RegistryEntry

ROOT = Path(__file__).parents[2]


def rule(prefix: str, destination: str = "", strip: bool = False, **more: Any) -> ContentRule:  # noqa: FBT001, FBT002 - zot's table reads like this
    """Without the checks that a profile goes through, because zot's table has degenerate rows."""
    checked = ContentRule.model_validate({"prefix": prefix, "destination": "/x", **more})
    return checked.model_copy(update={"destination": destination, "strip_prefix": strip})


def tag_rule(**tags: Any) -> ContentRule:
    return ContentRule.model_validate({"prefix": "**", "tags": tags})


def entry(*content: ContentRule, **more: Any) -> RegistryEntry:
    return RegistryEntry.model_validate({"urls": ["https://registry.example"], "content": content, **more})


def load(text: str, name: str = "profile.yaml", folder: Path | None = None) -> LoadedProfile:
    return parse_profile(text, Path(name), folder=folder)


def problems(text: str, name: str = "profile.yaml") -> list[str]:
    """What is wrong, one line each, without the name of the file."""
    with pytest.raises(ProfileInvalid) as refused:
        load(text, name)
    return [str(problem).removeprefix(f"{name}:") for problem in refused.value.problems]


def warnings(text: str, name: str = "profile.yaml", folder: Path | None = None) -> list[str]:
    return [str(warning).removeprefix(f"{name}:") for warning in load(text, name, folder).warnings]
