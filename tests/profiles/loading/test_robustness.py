"""Whatever stands in a profile, it loads or is refused; nothing else ever comes out."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiles.errors import ProfileInvalid
from profiles.examples.shipped import shipped_profile
from tests.profiles.support import load, warnings

_TEXT = re.sub(
    r"^( *)#(?=\S)|^( +)#(?=  )", r"\1\2", shipped_profile("starter").read_text(), flags=re.MULTILINE
)
_WHOLE: dict[str, Any] = yaml.safe_load(_TEXT)


def _paths(found: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [path, *(deeper for key, value in inner for deeper in _paths(value, (*path, key)))]


_SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(
        ["", "*", "[", "a" * 300, "https://[", "@", "1h", "sha256:0", "\x00", "\ud800", "**/" * 20, "(" * 99]
    ),
    st.text(max_size=8),
)
_ANYTHING = st.recursive(
    _SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(changes=st.lists(st.tuples(st.sampled_from(_paths(_WHOLE)), _ANYTHING), min_size=1, max_size=4))
def test_no_value_anywhere_breaks_the_loader(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    document: Any = copy.deepcopy(_WHOLE)
    for path, value in changes:
        holder = document
        try:
            for key in path[:-1]:
                holder = holder[key]
            if path:
                holder[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    text = re.sub(r"\b(NaN|-?Infinity)\b", "1e999", json.dumps(document))
    try:
        loaded = load(text, "fuzz.json")
    except ProfileInvalid as refused:
        vague = [problem for problem in refused.problems if not problem.found or problem.line < 1]
    else:
        vague = []
        # A signer refuses keys of another type, also where they have their defaults.
        again = loaded.profile.model_dump_json(by_alias=True, exclude_unset=True)
        assert load(again, "again.json").profile == loaded.profile
    assert vague == []


def test_a_large_profile_loads() -> None:
    content = ", ".join(f"{{prefix: 'team{n}/**', destination: '/m{n}'}}" for n in range(200))
    entries = "".join(
        f"    - {{urls: [r{n}], pollInterval: 1h, content: [{{prefix: r{n}}}]}}\n" for n in range(200)
    )
    head = "storage: {rootDirectory: /s}\nsync:\n  registries:\n"
    first = f"    - {{urls: [x], pollInterval: 1h, content: [{content}]}}\n"
    assert warnings(head + first + entries) == []
