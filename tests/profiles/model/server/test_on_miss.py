"""Which receivers a profile may describe, and what it has to say with them."""

from __future__ import annotations

import pytest

from tests.profiles.support import load, problems

PROFILE = "storage: {{rootDirectory: s}}\nsync: {{registries: []}}\nhttp: {{onMiss: {section}}}\n"


@pytest.mark.parametrize(
    ("section", "urls"),
    [
        pytest.param("{}", (), id="up's own, which nobody else can call"),
        pytest.param("{url: 'http://a/', secretFile: s}", ("http://a/",), id="one"),
        pytest.param(
            "{urls: ['http://a/', 'https://b/x'], secretFile: s}", ("http://a/", "https://b/x"), id="several"
        ),
        pytest.param("{receiver: {address: 0.0.0.0}, secretFile: s}", (), id="found in the store"),
        pytest.param(
            "{urls: ['http://a/'], receiver: {port: 1}, secretFile: s}",
            ("http://a/",),
            id="listed, and where",
        ),
    ],
)
def test_receivers_are_named_or_found(section: str, urls: tuple[str, ...]) -> None:
    assert load(PROFILE.format(section=section)).profile.http.on_miss.all_urls == urls


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("{url: 'http://a/'}", "secretFile is required with url"),
        ("{urls: ['http://a/']}", "secretFile is required with urls"),
        ("{receiver: {port: 1}}", "secretFile is required with receiver"),
        ("{secretFile: s}", "none is described; add url or urls, or receiver"),
        ("{urls: ['ftp://a/'], secretFile: s}", "'ftp://a/' is not a URL of http or https"),
        ("{receiver: {url: a}, secretFile: s}", "'a' is not a URL of http or https"),
    ],
)
def test_what_could_never_be_called_is_refused(section: str, complaint: str) -> None:
    (found,) = problems(PROFILE.format(section=section))
    assert complaint in found
