"""Windows images: builds of the system in one index, and layers that registries do not distribute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from tests.in_the_wild.cases.rows import Row
from tests.support_misbehaving import answers, redirects, reset_in_body, says
from tests.tasks.runs import add_document, add_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Behaviour, Misbehaving

APP: Final = "library/app"
ONE: Final = (f"{APP}:1",)
FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
BASE: Final = b"the base layer of Windows"
ELSEWHERE: Final = "/elsewhere/base.tar.gz"
FETCH: Final = ({"prefix": "**", "foreignLayers": "fetch"},)


def foreign(*urls: str, by_registry: bool = False, **behaviours: Behaviour) -> Callable[[Misbehaving], None]:
    """An image with a foreign layer. `urls` are paths on the upstream's host, or whole addresses."""

    def arrange(upstream: Misbehaving) -> None:
        config = upstream.add_blob(APP, b"{}", media_types.DOCKER_CONFIG)
        own = upstream.add_blob(APP, b"own layer", "application/vnd.docker.image.rootfs.diff.tar.gzip")
        base = Descriptor(FOREIGN, Digest.of(BASE), len(BASE)).to_json()
        base["urls"] = [url if "://" in url else f"http://{upstream.host}{url}" for url in urls]
        if by_registry:
            upstream.add_blob(APP, BASE)
        upstream.on(ELSEWHERE, answers(200, BASE))
        for path, behaviour in behaviours.items():
            upstream.on(f"/{path}", behaviour)
        layers = [base, own.to_json()]
        add_document(upstream, APP, "1", media_types.DOCKER_MANIFEST, config=config.to_json(), layers=layers)

    return arrange


def builds(upstream: Misbehaving) -> None:
    """One index for two builds of Windows and for Linux."""
    platforms = {
        "old": Platform("windows", "amd64", os_version="10.0.17763.5458"),
        "new": Platform("windows", "amd64", os_version="10.0.20348.2340"),
        "linux": Platform("linux", "amd64"),
    }
    children = []
    for name, platform in platforms.items():
        found = upstream.add_image(APP, name, (name.encode(),)).manifest
        children.append(Descriptor(found.media_type, found.digest, found.size, platform=platform))
        upstream.repositories[APP].tags.remove(name)
    add_index(upstream, APP, "1", *children)


ROWS: Final = (
    Row("a foreign layer is left where it is", "moby 33650", foreign(ELSEWHERE), ONE),
    Row("a foreign layer that is fetched", "moby 33151", foreign(ELSEWHERE), ONE, content=FETCH),
    Row(
        "a foreign layer that the registry has after all",
        "moby 33151",
        foreign("/gone", by_registry=True),
        ONE,
        content=FETCH,
    ),
    Row(
        "a foreign layer behind a redirect",
        "moby 33650",
        foreign("/fwlink", fwlink=redirects(ELSEWHERE)),
        ONE,
        content=FETCH,
    ),
    Row(
        "a foreign layer that the second of its addresses gives",
        "image-spec: descriptor.md",
        foreign("/gone", ELSEWHERE, gone=answers(404)),
        ONE,
        content=FETCH,
    ),
    Row(
        "a foreign layer with other bytes",
        "image-spec: descriptor.md",
        foreign("/wrong", wrong=answers(200, BASE[::-1])),
        failed={ONE[0]: "expected content with digest sha256:"},
        content=FETCH,
    ),
    Row(
        "a foreign layer that nobody gives",
        "image-spec: descriptor.md",
        foreign("/gone", gone=says(404, "BLOB_UNKNOWN", "no")),
        failed={ONE[0]: "127.0.0.1, which the manifest names for it: 404 Not Found"},
        content=FETCH,
    ),
    Row(
        "a foreign layer at an address inside of the cloud",
        "RFC 3927: link-local addresses",
        foreign("http://169.254.169.254/latest/meta-data"),
        failed={ONE[0]: "a forbidden address"},
        content=FETCH,
    ),
    Row(
        "a foreign layer at no address",
        "image-spec: descriptor.md",
        foreign("file:///etc/passwd"),
        failed={ONE[0]: "names no usable address"},
        content=FETCH,
    ),
    Row(
        "a foreign layer that breaks off, and goes on byte by byte",
        "a server that never ends",
        foreign("/drip", drip=reset_in_body(BASE, 1)),
        failed={ONE[0]: "which the manifest names for it"},
        content=FETCH,
    ),
    Row("two builds of Windows", "mquery 5", builds, ONE),
    Row(
        "one build of Windows",
        "mquery 5, moby 35090",
        builds,
        ONE,
        content=({"prefix": "**", "platforms": ["windows(10.0.17763)/amd64"]},),
    ),
    Row(
        "a build of Windows that is not there",
        "moby 35090",
        builds,
        content=({"prefix": "**", "platforms": ["windows(10.0.14393)/amd64"]},),
        unlike_peers="the rule drops it",
    ),
)
