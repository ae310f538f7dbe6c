"""Manifests, and ways to change them, for the tests of reading them."""

from __future__ import annotations

import json
from typing import Any

from registry_server.oci import media_types
from registry_server.oci.digest import Digest

CONTENT = b"content"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN_TYPE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
SHA384 = "sha384:" + "0" * 96


def descriptor(content: bytes = CONTENT, media_type: str = LAYER_TYPE, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(content), "size": len(content), **more}


CONFIG = descriptor(b"{}", media_types.OCI_CONFIG)
CHILD = descriptor(b"child", media_types.OCI_MANIFEST)
IMAGE: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_MANIFEST,
    "config": CONFIG,
    "layers": [descriptor()],
}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [CHILD]}


def body(document: Any, **changes: Any) -> bytes:
    return json.dumps({**document, **changes} if changes else document).encode()


def without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def layer(**changes: Any) -> bytes:
    """An image whose only layer is changed; None takes a key away."""
    changed = {key: value for key, value in {**descriptor(), **changes}.items() if value is not None}
    return body(IMAGE, layers=[changed])


def raw(text: str) -> bytes:
    """An image with `text` as further keys, for what json.dumps cannot write."""
    return body(IMAGE)[:-1] + b", " + text.encode() + b"}"
