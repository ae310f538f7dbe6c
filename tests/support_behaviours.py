"""What `tests.support_misbehaving` can be told to do.

upstream.on("/v2/library/nginx/manifests/1.25", answers(503), well_behaved)   # once, then as before
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from tests.support_misbehaving import Behaviour, Exchange


def answers(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """`Retry_After="3"` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.answer(status, body, named)


def says(status: int, code: str, message: str, **headers: str) -> Behaviour:
    """An OCI error body."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return answers(status, body, Content_Type="application/json", **headers)


def json_answer(document: object, **headers: str) -> Behaviour:
    return answers(200, json.dumps(document).encode(), Content_Type="application/json", **headers)


def truncated(body: bytes, at: int, **headers: str) -> Behaviour:
    """Promises all of `body`, sends `at` bytes of it and closes."""

    def behave(exchange: Exchange) -> None:
        answers(200, body[:at], Content_Length=str(len(body)), **headers)(exchange)
        exchange.close()

    return behave


def reset_in_body(body: bytes, at: int) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        answers(200, body[:at], Content_Length=str(len(body)))(exchange)
        exchange.reset()

    return behave


def hangs(exchange: Exchange) -> None:
    """Never answers."""
    exchange.hang()


def resets(exchange: Exchange) -> None:
    """Closes the connection instead of answering."""
    exchange.reset()


def hangs_in_body(body: bytes, at: int, **headers: str) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        answers(200, body[:at], Content_Length=str(len(body)), **headers)(exchange)
        exchange.hang()

    return behave


def endless(chunk: bytes = b" " * 65536, **headers: str) -> Behaviour:
    """A body without an end and without a length."""

    def behave(exchange: Exchange) -> None:
        answers(200, b"", **({"Content_Length": "", "Connection": "close"} | headers))(exchange)
        while exchange.alive():
            try:
                exchange._handler.wfile.write(chunk)
            except OSError:
                break
        exchange.close()

    return behave


def redirects(location: str, status: int = 307) -> Behaviour:
    return answers(status, Location=location)


def get_only(status: int) -> Behaviour:
    """Refuses HEAD with `status`."""
    refusal = answers(status)
    return lambda exchange: (refusal if exchange.seen.method == "HEAD" else well_behaved)(exchange)


_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags)/(?P<reference>[^/]+)")


def well_behaved(exchange: Exchange) -> None:
    """As the distribution specification has it, out of what was added."""
    path, upstream = exchange.seen.path, exchange.upstream
    if path == "/v2/":
        exchange.answer(200, b"{}")
        return
    if path == "/v2/_catalog":
        _json(exchange, {"repositories": sorted(upstream.repositories)})
        return
    match = _ROUTE.fullmatch(path)
    repository = upstream.repositories.get(match["name"]) if match else None
    if match is None or repository is None:
        _not_found(exchange, "NAME_UNKNOWN")
    elif match["kind"] == "tags":
        _json(exchange, {"name": match["name"], "tags": sorted(repository.tags)})
    elif match["kind"] == "blobs":
        _blob(exchange, repository.blobs.get(match["reference"]))
    else:
        _manifest(exchange, repository.manifests.get(match["reference"]))


def _json(exchange: Exchange, document: object) -> None:
    exchange.answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def _not_found(exchange: Exchange, code: str) -> None:
    body = json.dumps({"errors": [{"code": code, "message": "not here"}]}).encode()
    exchange.answer(404, body, {"Content-Type": "application/json"})


def _manifest(exchange: Exchange, found: tuple[str, bytes] | None) -> None:
    if found is None:
        _not_found(exchange, "MANIFEST_UNKNOWN")
        return
    media_type, body = found
    exchange.answer(200, body, {"Content-Type": media_type, "Docker-Content-Digest": Digest.of(body)})


def _blob(exchange: Exchange, content: bytes | None) -> None:
    if content is None:
        _not_found(exchange, "BLOB_UNKNOWN")
        return
    match = re.fullmatch(r"bytes=(\d+)-", exchange.seen.headers.get("range", ""))
    if match is None:
        exchange.answer(200, content)
    elif int(match[1]) >= len(content):
        exchange.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    else:
        start = int(match[1])
        where = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        exchange.answer(206, content[start:], where)
