"""Descriptors, platforms, media types."""

from __future__ import annotations

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName

ANY = Digest.of(b"any")


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("arm64", Platform(architecture="arm64")),
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
    ],
)
def test_platforms_are_written_as_docker_writes_them(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform
    assert str(platform) == text


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "a/b/c/d"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(InvalidName, match="write 'linux/amd64'"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "offered", "taken"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "windows/amd64", False),
        ("amd64", "windows/amd64", True),
        ("linux/arm64/v8", "linux/arm64", True),  # image-spec: arm64 without a variant is v8
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm", True),  # and arm is v7
        ("linux/arm/v6", "linux/arm", False),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64/v3", "linux/amd64", False),
    ],
)
def test_a_wished_platform_takes(wanted: str, offered: str, *, taken: bool) -> None:
    assert Platform.parse(wanted).accepts(Platform.parse(offered)) is taken


@pytest.mark.parametrize(
    ("media_type", "foreign"),
    [
        ("application/vnd.oci.image.layer.v1.tar+gzip", False),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", True),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True),
    ],
)
def test_layers_that_registries_do_not_distribute(media_type: str, *, foreign: bool) -> None:
    # image-spec layer.md: urls alone do not make a layer foreign.
    assert Descriptor(media_type, ANY, 1, urls=("https://example.com/x",)).is_foreign is foreign


def test_a_descriptor_is_written_with_what_it_has() -> None:
    bare = Descriptor("a/b", ANY, 1)
    full = Descriptor(
        "a/b", ANY, 1, platform=Platform("linux", "arm", "v7"), artifact_type="c/d", annotations={"k": "v"}
    )
    assert bare.to_json() == {"mediaType": "a/b", "digest": ANY, "size": 1}
    assert full.to_json() == bare.to_json() | {
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
        "artifactType": "c/d",
        "annotations": {"k": "v"},
    }
    assert (
        "variant" not in Descriptor("a/b", ANY, 1, platform=Platform("linux", "amd64")).to_json()["platform"]
    )


def test_content_types_are_compared_without_parameters() -> None:
    assert media_types.without_parameters(" Application/JSON; charset=utf-8") == "application/json"


def test_schema_1_is_not_asked_for() -> None:
    assert not any(schema1 in media_types.ACCEPT for schema1 in media_types.SCHEMA1)
    assert all(media_type in media_types.ACCEPT for media_type in media_types.MANIFESTS)
