"""Broken YAML, TOML and JSON: every slip at its line and column, with what to write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.errors import ProfileInvalid
from profiles.loading.json_reader import read_json
from tests.profiles.support import load, problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b\na: c", "2:1: the key 'a' stands already on line 1; keep one of the two"),
        ("a:\n\tb: c", "2:1: not YAML"),
        ("prefix: **", "1:10: not YAML"),
        ("a: b: c", "1:5: not YAML: mapping values are not allowed here"),
        ("a: [b", "1:6: not YAML"),
        ("a: 1\n---\nb: 2", "2:1: not YAML"),
        ("a: !!python/object:os.system {}", "1:4: the YAML tag"),
        ("a: &x [*x]", "1:"),
        ("? [a]\n: b", "1:3: a key that is not a text"),
        ("a: !env X", "1:4: the YAML tag '!env'"),
        ("a: \x01", "1:"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
    ],
)
def test_broken_yaml_is_refused_at_its_place(text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(text))


def test_hints_say_what_to_do_about_yaml() -> None:
    assert "indent with spaces" in problems("a:\n\tb: c")[0]
    assert "needs quotes, as in prefix: '**'" in problems("sync:\n  prefix: **")[0]
    assert "one document" in problems("a: 1\n---\nb: 2")[0]


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    assert "use fewer aliases" in problems(bomb)[0]


_SHARED = """
storage: {rootDirectory: /s}
sync:
  registries:
    - &common
      urls: [https://a.io]
      pollInterval: 1h30m
    - <<: *common
      urls: [https://b.io]
    - <<: [{tlsVerify: false}, *common]
      urls: [https://c.io]
"""


def test_yaml_aliases_and_merge_keys_share_settings() -> None:
    entries = load(_SHARED).profile.sync.registries
    assert [entry.name for entry in entries] == ["a.io", "b.io", "c.io"]
    assert [entry.poll_interval for entry in entries] == [5400] * 3
    assert [entry.tls_verify for entry in entries] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = ", "1:4: not TOML: invalid value"),
        ("[a]\nb = 1\nb = 2", "3:6: not TOML: cannot overwrite a value; keep one of the two"),
        ("[storage]\nnope = 1", "2:1: storage.nope: unknown key 'nope'; known here"),
        (
            "[[sync.registries]]\nurls=['a.io']\n[[sync.registries]]\nurls=['%']\n",
            "4:1: sync.registries[1].urls[0]",
        ),
        (
            "[storage]\nrootDirectory = '/s'\n[sync.registries]\n",
            "3:1: sync.registries: a section with keys is not a list",
        ),
        ("[storage]\nrootDirectory = 1979-05-27\n", "2:1: storage.rootDirectory"),
    ],
)
def test_broken_toml_is_refused_at_its_place(text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(text, "a.toml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": {} "b": 1}', "1:10: a comma is missing before \"b\"; write ',' after what ends on line 1"),
        ('{"a": [1 }', "1:10: ']' is missing: the list that begins on line 1, column 7 is still open at '}'"),
        ('{"a": [{"b": 1 ]}', "1:16: '}' is missing: the object that begins on line 1, column 8"),
        ('{"a": 1', "1:8: '}' is missing: the object that begins on line 1, column 1 is still open"),
        ('{"a": 1,}', "1:8: ',' stands before the end of a list or object; delete the comma"),
        ('{"a": [1,]}', "1:9: ',' stands before the end of a list or object; delete the comma"),
        ('{"a": 1, "a": 2}', "1:10: the key 'a' stands already on line 1; keep one of the two"),
        ('{"a": True}', "1:7: True is not a JSON value; write true, false or null in lower case"),
        ('{"a": 1} x', "1:10: x stands after the end"),
        ("{'a': 1}", "1:2: 'a' stands where a key is expected"),
        ('{"a" 1}', "1:6: 1 stands where the ':' after 'a' is expected"),
        ('{"a": "b\n"}', "1:9: not a JSON text: invalid control character at"),
        ('{"a": "b', "1:7: not a JSON text: unterminated string starting at"),
        ('{"a": 1 // x\n}', "1:9: // stands where ',' or a closing bracket is expected"),
        ("// x\n{}", "JSON has no comments"),
        ('"a": 1', "1:1: the profile does not begin with '{'"),
        ('{"a": 01}', "1:7: 01 is not a JSON value"),
        ('{"a": ' + "9" * 5000 + "}", "a number of that many digits"),
        ("[" * 200, "more than 64 levels"),
        ("{,}", "',' stands where the first value is expected"),
        ("[1}", "'}' stands where ']' is expected"),
        ('{"a":1}}', "'}' stands after the end"),
        ('"a": 1}', "'}' closes nothing that is open"),
        ("", "the end of the file is not a JSON value"),
        ('{"a": NaN}', "NaN is not a JSON value"),
    ],
)  # fmt: skip
def test_broken_json_is_refused_at_its_place(text: str, expected: str) -> None:
    found = problems(text, "a.json")
    assert any(expected in problem for problem in found), found


_JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=_JSON_VALUE, indent=st.sampled_from([None, 2, "\t"]), ascii_only=st.booleans())
def test_json_is_read_as_python_reads_it(
    *, value: object, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    document = read_json(text)
    if not isinstance(value, str):  # a text alone is taken for a piece of an object
        assert document.root is not None
        assert document.root.plain() == value
        assert document.problems == ()


@given(text=st.text('{}[]",: \n1ae\\', max_size=20))
def test_no_json_breaks_the_reader(text: str) -> None:
    document = read_json(text)
    try:
        expected = json.loads(text)
    except ValueError:
        assert document.problems
    else:
        assert isinstance(expected, str) or document.root is not None


@given(text=st.text("{}[]\"',: \n1ae&*!|>-?#%\t~<", max_size=20))
def test_no_text_breaks_the_loader(text: str) -> None:
    for name in ("a.yaml", "a.json", "a.toml", "a"):
        with pytest.raises(ProfileInvalid) as refused:
            load(text, name)
        assert all(problem.line >= 1 and problem.column >= 1 for problem in refused.value.problems)
