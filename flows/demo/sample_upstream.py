"""A made-up registry for the demo and for tests: small, and as untidy as real ones are.

Six repositories with multi-platform images, OCI and Docker formats, shared layers, a Helm chart, an SBOM
that refers to an image, a nested index, and tags for which rules are needed: versions of several styles,
pre-releases, dates, moving names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from flows.demo.sample_images import AMD64, ARM64, ARM_V7, ImageMaker, Layer, layer
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Platform
    from registry_server.store.store import Store

_PLATFORMS = (AMD64, ARM64, ARM_V7)
_CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_CHART_CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_SBOM = "application/spdx+json"

# Which tags name the same image: a version and the moving names for it.
_Images = tuple[tuple[str, ...], ...]
_ALPINE_DOCKER: _Images = (("3.9.6",), ("3.17.7",), ("3.18.5",), ("3.18.6", "3.18"))
_ALPINE_OCI: _Images = (
    ("3.19.0", "20240101"), ("3.19.1", "3.19", "3", "latest"), ("3.20.0_rc1",), ("20240329", "edge"),
)  # fmt: skip
_NGINX: _Images = (
    ("1.9.0",), ("1.10.0",), ("1.10.1-rc.1",), ("1.24.0", "1.24"), ("1.24.0-alpine3.19", "1.24-alpine3.19"),
    ("1.25.3",), ("1.25.4", "1.25", "mainline", "latest"), ("1.25.4-alpine", "mainline-alpine"),
    ("1.26.0", "1.26", "1", "stable"), ("1.26.0-alpine", "stable-alpine"), ("1.27.0-beta.2",),
)  # fmt: skip
_WEB: _Images = (
    ("v1.2.3",), ("v1.9.0",), ("v1.10.0", "v1.10"), ("v1.11.0-rc.1",), ("v2.0.0-beta.1",),
    ("v2.0.0", "v2", "latest"), ("nightly_20240229",), ("nightly_20240301", "nightly"), ("pr-117",),
    ("sha-1f8a2c4",),
)  # fmt: skip
_API: _Images = (("0.9.0",), ("1.0.0",), ("1.0.1", "1.0"), ("1.1.0", "1.1", "1", "latest"), ("1.1.0-debug",))
_CHARTS = ("0.1.0", "0.2.0", "1.0.0-alpha.1", "1.0.0", "1.1.0_build.5")  # helm writes + as _


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What was made: how many repositories and tags, and bytes in the store, each content counted once."""

    repositories: int
    tags: int
    bytes: int


def fill_sample_upstream(store: Store) -> SampleSummary:
    """Fill `store` with the sample registry; the same content, to the byte, each time."""
    _alpine(_maker(store, "library/alpine"))
    _nginx(_maker(store, "library/nginx"))
    _web(_maker(store, "apps/web"))
    _api(_maker(store, "apps/api"))
    _charts(_maker(store, "charts/web"))
    _builder(_maker(store, "tools/builder"))
    store.sync()
    _layer.cache_clear()
    names = store.repositories()
    tags = sum(len(store.repository(name).tags()) for name in names)
    return SampleSummary(len(names), tags, _bytes_of(store))


def _maker(store: Store, name: str) -> ImageMaker:
    return ImageMaker(store.repository(RepositoryName(name)))


def _alpine(maker: ImageMaker) -> None:
    for tags in _ALPINE_DOCKER:
        maker.tag(maker.multi_platform(_on_alpine(tags[0]), docker=True), *tags)
    for tags in _ALPINE_OCI:
        maker.tag(maker.multi_platform(_on_alpine(tags[0]), attested=True), *tags)


def _nginx(maker: ImageMaker) -> None:
    for tags in _NGINX:
        image = maker.multi_platform(_on_alpine("3.19.1", f"nginx-{tags[0]}", 180_000), attested=True)
        maker.tag(image, *tags)


def _web(maker: ImageMaker) -> None:
    """One platform each; the newest release has an SBOM that refers to it."""
    for number, tags in enumerate(_WEB):
        layers = _on_alpine("3.19.1", f"web-{tags[0]}", 400_000)[AMD64]
        labels = {"org.opencontainers.image.version": tags[0], "org.opencontainers.image.vendor": "Example"}
        image = maker.image(layers, created=f"2024-02-{number + 1:02}T12:00:00Z", labels=labels)
        maker.tag(image, *tags)
        if "latest" in tags:
            sbom = json.dumps({"spdxVersion": "SPDX-2.3", "name": f"web-{tags[0]}", "packages": []}).encode()
            notes = {"org.opencontainers.image.created": "2024-02-07T12:00:00Z"}
            maker.artifact(_SBOM, sbom, content_type=_SBOM, subject=image, annotations=notes)


def _api(maker: ImageMaker) -> None:
    """Docker schema 2, with one layer that is larger than a chunk of any copy loop."""
    runtime = _layer("python-runtime", 2_000_000)
    for tags in _API:
        base = _on_alpine("3.18.6")[AMD64]
        maker.tag(maker.image([*base, runtime, _layer(f"api-{tags[0]}", 60_000)], docker=True), *tags)


def _charts(maker: ImageMaker) -> None:
    for version in _CHARTS:
        chart = {"apiVersion": "v2", "name": "web", "version": version.replace("_", "+")}
        made = maker.artifact(
            None,
            _layer(f"chart-{version}", 3_000).content,
            content_type=_CHART_CONTENT,
            config=(_CHART_CONFIG, json.dumps(chart).encode()),
        )
        maker.tag(made, version)


def _builder(maker: ImageMaker) -> None:
    """An index of indexes, and an artifact without a subject beside it."""
    release = maker.multi_platform(_on_alpine("3.19.1", "builder", 700_000))
    debug = maker.multi_platform(_on_alpine("3.19.1", "builder-debug", 300_000))
    maker.tag(release, "2024.01", "latest")
    maker.tag(maker.index([(release, None), (debug, None)]), "2024.01-all")
    settings = maker.artifact(
        "application/vnd.example.settings.v1", b"jobs: 4\n", content_type="application/yaml"
    )
    maker.tag(settings, "settings")


def _on_alpine(version: str, name: str = "", size: int = 0) -> dict[Platform, list[Layer]]:
    """Layers for each platform: alpine's, and one of our own on top if it has a `name`."""
    layers = {}
    for platform in _PLATFORMS:
        base = _layer(f"alpine-{version}-{platform.architecture}", 150_000)
        own = [_layer(f"{name}-{platform.architecture}", size)] if name else []
        layers[platform] = [base, *own]
    return layers


@cache
def _layer(name: str, size: int) -> Layer:
    return layer(name, size)


def _bytes_of(store: Store) -> int:
    return sum(path.stat().st_size for path in (store.root / "blobs").rglob("*") if path.is_file())
