"""Which entries of an index are copied for which wishes."""

from __future__ import annotations

import pytest

from profiles.image_parts import ImageParts, wanted_children
from registry_server.oci.descriptor import Platform
from registry_server.oci.digest import Digest
from tests.tasks.things import index

NAMES = ("amd64", "arm64", "armv6", "armv7", "windows", "attested", "attested-arm64", "nested", "stray")
INDEX = index(
    ("amd64", "linux/amd64"),
    ("arm64", "linux/arm64/v8"),
    ("armv6", "linux/arm/v6"),
    ("armv7", "linux/arm/v7"),
    ("windows", "windows/amd64"),
    ("attested", "unknown/unknown", {"vnd.docker.reference.digest": Digest.of(b"amd64")}),
    ("attested-arm64", "unknown/unknown", {"vnd.docker.reference.digest": Digest.of(b"arm64")}),
    ("nested", ""),
    ("stray", "unknown/unknown"),
)


@pytest.mark.parametrize(
    ("wishes", "kept"),
    [
        pytest.param([], NAMES, id="no wish: everything"),
        pytest.param(
            ["linux/amd64"], ("amd64", "attested", "nested"), id="an attestation follows its image, no other"
        ),
        pytest.param(["linux/arm64"], ("arm64", "attested-arm64", "nested"), id="any variant"),
        pytest.param(["linux/arm64/v8"], ("arm64", "attested-arm64", "nested"), id="the variant that it has"),
        pytest.param(["linux/arm64/v9"], ("nested",), id="a variant that nothing has"),
        pytest.param(["linux/arm"], ("armv6", "armv7", "nested"), id="all variants of 32-bit arm"),
        pytest.param(["linux/arm/v7"], ("armv7", "nested"), id="one variant of 32-bit arm"),
        pytest.param(
            ["amd64"], ("amd64", "windows", "attested", "nested"), id="an architecture on any system"
        ),
        pytest.param(["linux/s390x"], ("nested",), id="what has no platform is kept whatever is wished"),
        pytest.param(
            ["windows/amd64", "linux/arm/v6"], ("armv6", "windows", "nested"), id="in the order of the index"
        ),
    ],
)
def test_entries_of_a_wished_platform_are_kept(wishes: list[str], kept: tuple[str, ...]) -> None:
    found = wanted_children(INDEX, ImageParts(tuple(map(Platform.parse, wishes))))
    names = {Digest.of(name.encode()): name for name in NAMES}
    assert tuple(names[child.digest] for child in found) == kept


@pytest.mark.parametrize(
    ("platform", "wish", "fits"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm", "linux/arm/v6", False),
        ("linux/amd64", "linux/amd64/v2", False),
        ("windows(10.0.17763.5458)/amd64", "windows(10.0.17763)/amd64", True),
        ("windows(10.0.17763.5458)/amd64", "windows(10.0.17763.5458)/amd64", True),
        ("windows(10.0.17763.5458)/amd64", "windows(10.0.1776)/amd64", False),
        ("windows(10.0.17763.5458)/amd64", "windows(10.0.20348)/amd64", False),
        ("windows(10.0.17763.5458)/amd64", "windows/amd64", True),
        ("windows/amd64", "windows(10.0.17763)/amd64", False),
    ],
)
def test_a_wish_takes_what_it_names_and_what_is_usual(
    platform: str,
    wish: str,
    fits: bool,  # noqa: FBT001 - a column of the table
) -> None:
    found = wanted_children(index(("child", platform)), ImageParts((Platform.parse(wish),)))
    assert bool(found) is fits
