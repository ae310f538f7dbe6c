"""Answers that pass: the run waits for them, however small the request was that they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.in_the_wild.cases.rows import Row
from tests.support_behaviours import answers, json_answer, resets, says, well_behaved

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Behaviour, Misbehaving

    Arrange = Callable[[Misbehaving], None]

APP: Final = "library/app"
MANIFEST: Final = f"/v2/{APP}/manifests/1"
TAGS: Final = f"/v2/{APP}/tags/list"
CATALOG: Final = "/v2/_catalog"
LIMITED: Final = says(429, "TOOMANYREQUESTS", "slow down")
MANY: Final = tuple(f"{APP}:{number}" for number in range(12))


def _passing(*behaviours: Behaviour, at: str) -> Arrange:
    def arrange(upstream: Misbehaving) -> None:
        upstream.add_image(APP, "1")
        upstream.on(at, *behaviours, well_behaved)

    return arrange


def _of_content(behaviour: Behaviour, kind: str) -> Arrange:
    def arrange(upstream: Misbehaving) -> None:
        image = upstream.add_image(APP, "1")
        digest = image.manifest.digest if kind == "manifests" else image.layers[0].digest
        upstream.on(f"/v2/{APP}/{kind}/{digest}", behaviour, well_behaved)

    return arrange


def _second_page(behaviour: Behaviour) -> Arrange:
    def arrange(upstream: Misbehaving) -> None:
        upstream.add_image(APP, "1")
        upstream.add_image(APP, "2")
        first = json_answer({"tags": ["1"]}, Link=f'<{TAGS}?last=1>; rel="next"')
        upstream.on(TAGS, first, behaviour, json_answer({"tags": ["2"]}))

    return arrange


def _closed_for_an_hour(upstream: Misbehaving) -> None:
    for number in range(len(MANY)):
        upstream.add_image(APP, str(number))
        upstream.on(f"/v2/{APP}/manifests/{number}", answers(429, Retry_After="3600"))


def _busy_for_one_tag(upstream: Misbehaving) -> None:
    """503 may be about one image: its neighbours go on."""
    upstream.add_image(APP, "1")
    upstream.add_image(APP, "2")
    upstream.on(MANIFEST, answers(503, Retry_After="7200"))


ONE: Final = (f"{APP}:1",)
ROWS: Final = (
    Row("a HEAD that is answered 429", "regclient/regclient 711", _passing(LIMITED, at=MANIFEST), ONE),
    Row(
        "a HEAD that is answered 429 with a time",
        "RFC 6585, 4",
        _passing(answers(429, Retry_After="1"), at=MANIFEST),
        ONE,
    ),
    Row(
        "a HEAD that is answered 429 with a time in the text",
        "chainguard-images/images 173: GHCR",
        _passing(says(429, "TOOMANYREQUESTS", "retry-after: 90.5ms, allowed: 44000/minute"), at=MANIFEST),
        ONE,
    ),
    Row(
        "a HEAD that is answered 503 with a time",
        "RFC 9110, 15.6.4",
        _passing(answers(503, Retry_After="1"), at=MANIFEST),
        ONE,
    ),
    Row("a HEAD that is reset", "aliyun/image-syncer 136", _passing(resets, at=MANIFEST), ONE),
    Row("a list of tags that is answered 429", "RFC 6585, 4", _passing(LIMITED, at=TAGS), ONE),
    Row(
        "a list of tags that is answered 503 with a time",
        "RFC 9110, 15.6.4",
        _passing(answers(503, Retry_After="0"), at=TAGS),
        ONE,
    ),
    Row("a list of tags that is reset", "RFC 9110, 9.2.2", _passing(resets, at=TAGS), ONE),
    Row("a catalog that is answered 429", "RFC 6585, 4", _passing(LIMITED, at=CATALOG), ONE),
    Row("a catalog that is reset", "RFC 9110, 9.2.2", _passing(resets, at=CATALOG), ONE),
    Row("a second page that is answered 429", "RFC 6585, 4", _second_page(LIMITED), (*ONE, f"{APP}:2")),
    Row("a second page that is reset", "RFC 9110, 9.2.2", _second_page(resets), (*ONE, f"{APP}:2")),
    Row("a manifest that is answered 429", "RFC 6585, 4", _of_content(LIMITED, "manifests"), ONE),
    Row("a blob that is answered 429", "RFC 6585, 4", _of_content(LIMITED, "blobs"), ONE),
    Row(
        "a blob that is answered 503 with a time",
        "RFC 9110, 15.6.4",
        _of_content(answers(503, Retry_After="1"), "blobs"),
        ONE,
    ),
    Row(
        "a registry that wants an hour of silence",
        "aliyun/image-syncer 169: a 429 that is retried at once stays one",
        _closed_for_an_hour,
        failed=dict.fromkeys(MANY, "429"),
    ),
    Row(
        "a tag that is answered 503 for hours",
        "RFC 9110, 15.6.4",
        _busy_for_one_tag,
        mirrored=(f"{APP}:2",),
        failed={f"{APP}:1": "503 Service Unavailable"},
    ),
)
