"""`convert` and `platforms`: how they may be written, which form they ask for, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.docs.reference import json_schema
from profiles.image_parts import ImageParts
from profiles.matching import manifest_format_of, platforms_of, wanted_form
from registry_server.oci.descriptor import Platform
from registry_server.oci.digest import Digest
from registry_server.oci.forms import KEPT, Form
from registry_server.oci.reference import Tag
from tests.profiles.support import entry, load, problems, rule, warnings

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
BOTH = ["linux/arm64", "linux/amd64"]
DIGEST = "sha256:" + "0" * 64


def profile(keys: str, content: str, more: str = "") -> str:
    return (
        f"storage: {{rootDirectory: /s}}\n{more}sync:\n  registries:\n"
        f"    - urls: ['https://r']\n      pollInterval: 1h\n      {keys}\n      content: [{{{content}}}]\n"
    )


@pytest.mark.parametrize(
    ("written", "wanted", "rewrite"),
    [
        pytest.param(BOTH, (ARM, AMD), False, id="list"),
        pytest.param({"only": BOTH}, (ARM, AMD), False, id="section"),
        pytest.param({"only": BOTH, "rewrite": True}, (ARM, AMD), True, id="rewrite"),
        pytest.param([], (), False, id="all"),
        pytest.param(["", "linux/arm64"], (ARM,), False, id="zot's word for what has no platform"),
    ],
)
def test_platforms_are_a_list_or_a_section(
    written: Any, wanted: tuple[Platform, ...], *, rewrite: bool
) -> None:
    for found in (entry(rule("a"), platforms=written), entry(rule("a", platforms=written))):
        [one] = found.content
        assert platforms_of(found, one) == wanted
        assert manifest_format_of(found, [one], ImageParts(wanted)).rewrite is rewrite
        assert found.model_validate(found.model_dump(by_alias=True)) == found


@pytest.mark.parametrize(
    ("rules", "platforms", "form"),
    [
        pytest.param([{}], (), KEPT, id="nothing asked"),
        pytest.param([{"convert": "oci"}], (), Form(oci=True), id="converted"),
        pytest.param([{}, {"convert": "oci"}], (), Form(oci=True), id="one of two asks for it"),
        pytest.param(
            [{"convert": "oci", "platforms": BOTH}],
            (ARM, AMD),
            Form(oci=True, platforms=(AMD, ARM)),
            id="left out platforms matter, their order does not",
        ),
        pytest.param(
            [{"platforms": {"only": BOTH, "rewrite": True}}],
            (ARM, AMD),
            Form(rewrite=True, platforms=(AMD, ARM)),
            id="smaller",
        ),
        pytest.param(
            [{"platforms": {"only": BOTH, "rewrite": True}}, {}],
            (),
            KEPT,
            id="the other rule wants all: there is nothing to cut",
        ),
        pytest.param([None], (), KEPT, id="an entry without rules"),
    ],
)
def test_the_form_is_what_the_rules_ask_for_together(
    rules: list[dict[str, Any] | None], platforms: tuple[Platform, ...], form: Form
) -> None:
    found = [None if one is None else rule("a", **one) for one in rules]
    assert manifest_format_of(entry(), found, ImageParts(platforms)) == form


@pytest.mark.parametrize(
    ("reference", "form"),
    [
        pytest.param(Tag("1"), Form(oci=True), id="a tag"),
        pytest.param(Digest(DIGEST), KEPT, id="a digest names its own bytes"),
        pytest.param(Tag(f"sha256-{'0' * 64}.sig"), KEPT, id="a signature's tag names what was signed"),
    ],
)
def test_only_tags_of_images_are_converted(reference: Tag | Digest, form: Form) -> None:
    assert wanted_form(entry(), [rule("a", convert="oci")], reference, ImageParts(())) == form


@pytest.mark.parametrize(
    ("keys", "content", "expected"),
    [
        ("platforms: [linux/]", "prefix: a", "6:19: sync.registries[0].platforms[0]: 'linux/' is not a plat"),
        ("platforms: {only: [x/]}", "prefix: a", "platforms.only[0]: 'x/' is not a platform"),
        (
            "platforms: {onyl: [arm64]}",
            "prefix: a",
            "platforms.onyl: unknown key 'onyl'; did you mean 'only'?",
        ),
        ("platforms: arm64", "prefix: a", "platforms: 'arm64' is not a list; write a list, e.g. platforms:"),
        ("platforms: {rewrite: true}", "prefix: a", "platforms.rewrite: rewrite cuts an index down to what"),
        ("", "prefix: a, convert: docker", "content[0].convert:"),
        (
            "preserveDigest: true",
            "prefix: a, convert: oci",
            "content[0].convert: preserveDigest is true, and convert gives the tag another digest",
        ),
    ],
)
def test_what_is_refused(keys: str, content: str, expected: str) -> None:
    [problem] = problems(profile(keys, content))
    assert expected in problem


@pytest.mark.parametrize(
    ("keys", "content", "expected"),
    [
        (
            "preserveDigest: false",
            "prefix: a",
            ["preserveDigest: digests and Docker's media types are preser"],
        ),
        ("preserveDigest: false", "prefix: a, convert: oci", []),
        ("preserveDigest: true", "prefix: a", []),
        ("", "prefix: a, convert: oci", []),
        (
            "",
            f"images: ['a@{DIGEST}'], convert: oci",
            ["content[0].convert: images that are listed by digest"],
        ),
        (
            "onlySigned: true",
            "prefix: a, convert: oci",
            ["onlySigned: it looks", "convert: signatures name the"],
        ),
        (
            "onlySigned: true\n      platforms: {only: [arm64], rewrite: true}",
            "prefix: a",
            ["onlySigned: it looks", "platforms: signatures name the upstream's digests"],
        ),
    ],
)
def test_what_is_warned_about(keys: str, content: str, expected: list[str]) -> None:
    found = warnings(profile(keys, content))
    assert len(found) == len(expected), found
    assert all(text in line for text, line in zip(expected, found, strict=True)), found


def test_the_schema_takes_a_list_and_a_section() -> None:
    text = str(json_schema())
    assert "'rewrite'" in text
    assert load(profile("platforms: [arm64]", "prefix: a")).profile.sync.registries[0].platforms is not None
