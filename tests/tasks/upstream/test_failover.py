"""Several urls of one entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tasks.upstream.errors import UpstreamDenied, UpstreamNotFound, UpstreamUnavailable
from tests.support_behaviours import answers, resets, says
from tests.support_misbehaving import well_behaved
from tests.tasks.upstream.clients import FakeTime, client
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from tests.support_misbehaving import Behaviour, Misbehaving

NAME = "library/nginx"
PATH = f"/v2/{NAME}/manifests/1.25"


@pytest.mark.parametrize("behaviour", [answers(500), answers(503), resets], ids=["500", "503", "reset"])
def test_the_next_url_is_asked_and_stayed_with(
    upstream: Misbehaving, other: Misbehaving, behaviour: Behaviour
) -> None:
    image = other.add_image(NAME, "1.25")
    upstream.add_image(NAME, "1.25")
    upstream.on(PATH, behaviour, well_behaved)
    time = FakeTime()
    with client(upstream, other, time=time) as registry:
        for _ in range(3):
            assert registry.manifest(NAME, "1.25").digest == image.manifest.digest
    assert (len(upstream.seen), len(other.seen)) == (1, 3)
    assert time.slept == 0, "nobody waits while another url is left"


def test_the_urls_are_asked_in_the_listed_order(upstream: Misbehaving, other: Misbehaving) -> None:
    for each in (upstream, other):
        each.add_image(NAME, "1.25")
    with client(other, upstream) as registry:
        registry.head(NAME, "1.25")
    assert (len(upstream.seen), len(other.seen)) == (0, 1)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [(says(404, "MANIFEST_UNKNOWN", "gone"), UpstreamNotFound), (answers(403), UpstreamDenied)],
    ids=["404", "403"],
)
def test_an_answer_is_an_answer(
    upstream: Misbehaving, other: Misbehaving, behaviour: Behaviour, kind: type[Exception]
) -> None:
    upstream.on(PATH, behaviour)
    with client(upstream, other) as registry, pytest.raises(kind):
        registry.head(NAME, "1.25")
    assert other.seen == []


def test_when_all_fail_the_first_is_blamed_and_the_others_are_named(
    upstream: Misbehaving, other: Misbehaving
) -> None:
    upstream.on(PATH, says(503, "UNAVAILABLE", "resting"))
    other.on(PATH, answers(500))
    with client(upstream, other) as registry, pytest.raises(UpstreamUnavailable) as caught:
        registry.head(NAME, "1.25")
    assert str(caught.value).startswith(f"{upstream.host}: {NAME}:1.25: 503 Service Unavailable")
    assert f"{other.host}: 500 Internal Server Error" in str(caught.value)


def test_a_blob_goes_on_at_the_next_url(upstream: Misbehaving, other: Misbehaving) -> None:
    content = b"0123456789" * 5000
    blob = upstream.add_blob(NAME, content)
    other.add_blob(NAME, content)
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", answers(503))
    sink = MemorySink(content[:7])
    with client(upstream, other) as registry:
        registry.blob(NAME, blob, sink)
    assert sink.content == content
    assert other.seen[0].headers["range"] == "bytes=7-"


def test_a_list_is_never_put_together_from_two_registries(upstream: Misbehaving, other: Misbehaving) -> None:
    upstream.on(
        "/v2/_catalog",
        answers(200, b'{"repositories": ["a"]}', Link="</v2/_catalog?last=a>; rel=next"),
        answers(500),
    )
    other.add_image("b", "1")
    with client(upstream, other) as registry:
        assert list(registry.repositories()) == ["b"]
