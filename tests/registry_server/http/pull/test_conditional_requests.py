from __future__ import annotations

import pytest

from registry_server.http.pull.conditional_requests import entity_tag, is_unchanged, range_applies
from registry_server.oci.digest import Digest

DIGEST = Digest.of(b"content")
OTHER = Digest.of(b"other")


@pytest.mark.parametrize(
    ("header", "unchanged"),
    [
        (None, False),
        ("", False),
        (f'"{DIGEST}"', True),
        (f"{DIGEST}", True),  # without quotes, as some clients send it
        (f'W/"{DIGEST}"', True),  # If-None-Match compares weakly
        (f'"{OTHER}", "{DIGEST}"', True),
        (f'"{OTHER}"', False),
        (f'"{DIGEST}x"', False),
        ("*", True),
    ],
)
def test_a_client_that_names_the_digest_has_it(header: str | None, *, unchanged: bool) -> None:
    assert is_unchanged(header, DIGEST) is unchanged


@pytest.mark.parametrize(
    ("header", "applies"),
    [
        (None, True),
        (entity_tag(DIGEST), True),
        (entity_tag(OTHER), False),
        (f'W/"{DIGEST}"', False),  # If-Range compares strongly
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    ],
)
def test_a_range_holds_only_for_the_content_that_the_client_began_with(
    header: str | None, *, applies: bool
) -> None:
    assert range_applies(header, DIGEST) is applies
