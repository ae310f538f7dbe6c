"""Names, digests and references: the grammar of distribution-spec, and text that wants to escape from it."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import ImageName, RepositoryName, Tag, parse_reference

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX * 2}"

HOSTILE = [
    pytest.param("", id="nothing"),
    pytest.param("..", id="parent"),
    pytest.param("../x", id="escape"),
    pytest.param("a/../../etc/passwd", id="escape-in-the-middle"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("a\n", id="newline-that-a-dollar-would-accept"),
    pytest.param("a\r\nSet-Cookie: x", id="header-injection"),
    pytest.param("a\0", id="nul"),
    pytest.param("a\\b", id="backslash"),
    pytest.param("a%2fb", id="encoded-slash"),
    pytest.param("%2e%2e", id="encoded-dots"),
    pytest.param("a b", id="space"),
    pytest.param("a?x=1", id="query"),
    pytest.param("a#b", id="fragment"),
    pytest.param("é", id="letter-outside-ascii"),
    pytest.param("٣", id="digit-outside-ascii"),
    pytest.param(".tmp", id="leading-dot"),
    pytest.param("-rf", id="leading-dash"),
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", [RepositoryName, Tag, Digest])
def test_hostile_text_is_no_name_of_any_kind(kind: type[str], text: str) -> None:
    with pytest.raises(InvalidName):
        kind(text)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "library/nginx",
        "a/b/c/d/e",
        "a.b/c_d/e__f/g-h/i--j/k---l",
        "0/1",
        "a/blobs/uploads",  # distribution-spec: a repository may be called like a route
        "a/manifests",
        "a" * 255,
    ],
)
def test_repository_names(text: str) -> None:
    assert RepositoryName(text) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("A", id="upper-case"),
        pytest.param("a//b", id="empty-part"),
        pytest.param("a/", id="trailing-slash"),
        pytest.param("/a", id="leading-slash"),
        pytest.param("a..b", id="two-dots"),
        pytest.param("a___b", id="three-underscores"),
        pytest.param("a._b", id="mixed-separators"),
        pytest.param("a-", id="trailing-dash"),
        pytest.param("_r", id="our-own-folder"),
        pytest.param("a/_r/b", id="our-own-folder-inside"),
        pytest.param("a:b", id="colon"),
        pytest.param("a@b", id="at"),
        pytest.param("a" * 256, id="too-long"),
        pytest.param("a-" * 100_000, id="long-enough-to-make-a-slow-expression-slow"),
    ],
)
def test_what_is_no_repository_name(text: str) -> None:
    with pytest.raises(InvalidName) as caught:
        RepositoryName(text)
    assert caught.value.code == "NAME_INVALID"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["1", "latest", "LATEST", "_x", "v1.2.3-rc.1", "a..b", "x" * 128])
def test_tags(text: str) -> None:
    assert Tag(text) == text


@pytest.mark.parametrize("text", ["x" * 129, "a/b", "a:b", "a+b", "a@b", ".", "..x"])
def test_what_is_no_tag(text: str) -> None:
    with pytest.raises(InvalidName):
        Tag(text)


@pytest.mark.parametrize("text", [SHA256, SHA512])
def test_digests(text: str) -> None:
    digest = Digest(text)
    assert f"{digest.algorithm}:{digest.hex}" == text
    assert digest.short == f"{digest.algorithm}:{HEX[:12]}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SHA256.upper(), id="upper-case"),
        pytest.param(f"sha256:{HEX.upper()}", id="upper-case-hex"),
        pytest.param(SHA256[:-1], id="too-short"),
        pytest.param(SHA256 + "0", id="too-long"),
        pytest.param(f"sha512:{HEX}", id="hex-of-another-algorithm"),
        pytest.param(f"md5:{HEX[:32]}", id="weak-algorithm"),
        pytest.param(f"sha1:{HEX[:40]}", id="broken-algorithm"),
        pytest.param(HEX, id="no-algorithm"),
        pytest.param(f"sha256-{HEX}", id="file-name-of-ours"),
        pytest.param(f"{SHA256}\n", id="newline"),
        pytest.param(f"sha256:../../{HEX[:58]}", id="escape-of-the-right-length"),
    ],
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidName) as caught:
        Digest(text)
    assert caught.value.code == "DIGEST_INVALID"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_of_content(algorithm: str) -> None:
    digest = Digest.of(b"content", algorithm)
    assert digest.algorithm == algorithm
    assert digest == Digest.of(b"content", algorithm)
    assert digest != Digest.of(b"Content", algorithm)


@pytest.mark.parametrize("name", [Digest(SHA256), Tag("1"), RepositoryName("a/b")])
def test_names_survive_pickling_and_json(name: str) -> None:
    copy = pickle.loads(pickle.dumps(name))  # noqa: S301 - our own bytes: runners send names so
    assert copy == name
    assert type(copy) is type(name)
    assert json.loads(json.dumps(name)) == name


@pytest.mark.parametrize(
    ("text", "kind"), [pytest.param("1.25", Tag, id="tag"), pytest.param(SHA512, Digest, id="digest")]
)
def test_what_follows_manifests_is_a_tag_or_a_digest(text: str, kind: type[str]) -> None:
    assert type(parse_reference(text)) is kind


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("library/nginx:1.25", "library/nginx:1.25"),
        (f"library/nginx@{SHA256}", f"library/nginx@{SHA256}"),
        pytest.param(f"library/nginx:1@{SHA256}", f"library/nginx@{SHA256}", id="the-digest-pins"),
        pytest.param("library/nginx", "library/nginx:latest", id="default-tag"),
    ],
)
def test_image_names(text: str, written: str) -> None:
    assert str(ImageName.parse(text, default_tag="latest")) == written


@pytest.mark.parametrize(
    "text", ["", ":1", "a:", "a@", "a@1", "a@sha256:x", "A:1", "a:b:c", "host:5000/a:1", "a:1/../b"]
)
def test_what_is_no_image_name(text: str) -> None:
    with pytest.raises(InvalidName):
        ImageName.parse(text)


def test_an_image_name_without_a_tag_says_what_to_write() -> None:
    with pytest.raises(InvalidName, match="write 'library/nginx:TAG'"):
        ImageName.parse("library/nginx")


@given(st.text())
def test_any_text_is_a_harmless_path_part_or_refused(text: str) -> None:
    for kind in (RepositoryName, Tag, Digest):
        try:
            name = kind(text)
        except InvalidName:
            continue
        parts = name.split("/")
        assert name.isascii()
        assert "" not in parts
        assert not any(part.startswith(".") for part in parts)
        assert not set(name) & set("\0\\%\r\n ")
