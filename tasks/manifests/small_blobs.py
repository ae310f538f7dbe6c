"""Blobs that are small enough to look at: configs, signatures. Read into memory, and checked.

The rules' `select` reads configs, and the allow-list of companions reads what they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch
from tasks.manifests.reading import blamed
from tasks.upstream.blob import InMemory

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image


def fetch_small_blob(run: MirrorRun, image: Image, descriptor: Descriptor) -> bytes:
    """From the upstream; the caller has looked at its size. Nothing is stored.

    Raises `WrongContent`: a decision must not rest on what somebody else wrote. Raises `UpstreamError`.
    """
    if descriptor.data is not None:
        return descriptor.data
    sink = InMemory()
    run.upstream.blob(image.source, descriptor, sink)
    content = bytes(sink.content)
    actual = Digest.of(content, descriptor.digest.algorithm)
    if actual != descriptor.digest:
        with blamed(run, image, descriptor.digest):
            raise DigestMismatch(expected=descriptor.digest, actual=actual)
    return content
