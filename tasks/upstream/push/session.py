"""An upload session of a registry: requests and answers (distribution-spec "Pushing blobs")."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import httpx

from tasks.upstream.endpoints import Call
from tasks.upstream.errors import UpstreamError, UpstreamNotFound, UpstreamProtocolError
from tasks.upstream.login.realm import is_plain, joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from registry_server.oci.descriptor import Descriptor
    from tasks.upstream.connection.wire import Answer
    from tasks.upstream.endpoints import Endpoint, Endpoints
    from tasks.upstream.exchange import Exchanger

_OCTETS: Final = "application/octet-stream"
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d{1,18})")  # end-5; "bytes=" is of registries that read RFC 9110
_LENGTH: Final = re.compile(
    r"\d{1,18}", re.ASCII
)  # more digits are no length, and int() refuses 4,300 of them
_NO_MOUNT: Final = frozenset({400, 401, 403, 404, 405, 422, 501})
_UNKNOWN: Final = frozenset({404, 400, 410})
"""What a registry answers that has forgotten a session (docker-registry 2.8: where a part of it was cut)."""


@dataclass(frozen=True, slots=True)
class Session:
    """Where the next bytes go, and how many the registry has. `least` is its OCI-Chunk-Min-Length."""

    location: httpx.URL
    position: int = 0
    least: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes that are sent in one request, from `start` on. `last`: they complete the blob."""

    start: int
    length: int
    last: bool


@dataclass(frozen=True, slots=True)
class Sessions:
    """The requests for one blob of one repository. Every method may raise an `UpstreamError`."""

    exchanger: Exchanger
    endpoints: Endpoints
    repository: str
    blob: Descriptor

    @property
    def endpoint(self) -> Endpoint:
        return self.endpoints.current

    def begin(self, mount_from: str = "") -> Session | None:
        """Open one; None where the blob is there now, mounted from `mount_from` (end-11).

        A registry that does not mount opens one all the same. Some refuse the request instead, e.g. where
        the other repository may not be read: then it is made without the mount.
        """
        call = Call("POST upload", "blobs/uploads/", content=b"")
        if mount_from:
            source = self.endpoint.url.repository(mount_from)
            tail = f"{call.tail}?mount={self.blob.digest}&from={source}"
            try:
                return self._begun(replace(call, tail=tail, mount_from=mount_from))
            except UpstreamError as error:
                if error.status not in _NO_MOUNT:
                    raise
        return self._begun(call)

    def _begun(self, call: Call) -> Session | None:
        def ask(_: Endpoint) -> Session | None:
            with self._open(call) as answer:
                return None if answer.status == 201 else self._session(answer)

        return self.endpoints.run(ask)

    def find(self, session: Session) -> Session | None:
        """How far it got (end-13); None where the registry does not know it any more."""
        try:
            return self.endpoints.run(lambda _: self._found(session))
        except UpstreamError as error:
            if error.status in _UNKNOWN:
                return None
            raise

    def _found(self, session: Session) -> Session:
        with self._open(Call("GET upload", "", page=session.location)) as answer:
            return self._session(answer, base=session)

    def cancel(self, session: Session) -> None:
        """Tell the registry that nothing follows (end-14). Raises nothing that matters to who gives up."""
        with self._open(Call("DELETE upload", "", page=session.location)):
            pass

    def send(self, session: Session, part: Part, content: bytes | Iterator[bytes]) -> Session:
        """The bytes of `part`: PUT with the digest for what completes the blob, else PATCH (end-5, end-6).

        What was resumed says where it begins, and so does a part; a whole blob in one request does not.
        """
        headers = {"Content-Type": _OCTETS, "Content-Length": str(part.length)}
        if part.length and not (part.start == 0 and part.last):
            headers["Content-Range"] = f"{part.start}-{part.start + part.length - 1}"
        page = self._completing(session) if part.last else session.location
        call = Call("PUT blob" if part.last else "PATCH blob", "", page=page, headers=headers)
        if isinstance(content, bytes):
            return self._sent(replace(call, content=content), session, part)
        return self._sent(replace(call, stream=content), session, part)

    def _sent(self, call: Call, session: Session, part: Part) -> Session:
        with self._open(call) as answer:
            end = part.start + part.length
            if part.last:
                self._check_stored(answer)
                return Session(session.location, end)
            return self._session(answer, base=session, end=end)

    def _open(self, call: Call) -> AbstractContextManager[Answer]:
        whole = replace(call, repository=self.repository, reference=str(self.blob.digest))
        return self.exchanger.open(self.endpoint, whole)

    def _completing(self, session: Session) -> httpx.URL:
        """The location is opaque: what it has stays as it is, to the letter."""
        sign = "&" if session.location.query else "?"
        return httpx.URL(f"{session.location}{sign}digest={self.blob.digest}")

    def _check_stored(self, answer: Answer) -> None:
        """A registry that stored other bytes than were sent would say so by its digest (end-6)."""
        said = answer.headers.get("Docker-Content-Digest", "")
        if said.startswith(f"{self.blob.digest.algorithm}:") and said != self.blob.digest:
            raise UpstreamProtocolError(answer.where, f"it says that it stored {said}")

    def _session(self, answer: Answer, base: Session | None = None, end: int | None = None) -> Session:
        location = self._location(answer, base)
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if base is None:
            return Session(location, 0, int(least) if _LENGTH.fullmatch(least) else 0)
        if end is not None:
            return Session(location, end, base.least)
        return Session(location, self._position(answer.headers), base.least)

    def _position(self, headers: Mapping[str, str]) -> int:
        """Nothing and one byte have one spelling, `0-0`; the byte is sent again rather than left out."""
        found = _RANGE.fullmatch(headers.get("Range", "").strip())
        last = int(found[1]) if found else 0
        return min(last + 1, self.blob.size) if last else 0

    def _location(self, answer: Answer, base: Session | None) -> httpx.URL:
        """It is opaque, may change with every answer, and may be relative (distribution-spec "Push").

        A proxy that ends TLS often leaves the registry to say http: it stays https.
        """
        text = answer.headers.get("Location", "")
        if not text and base is not None:
            return base.location
        url = joined(answer.url, text) if text else None
        if url is None or not is_plain(url):
            raise UpstreamProtocolError(
                answer.where, f"it names no usable place for an upload: {text[:200]!r}"
            )
        if answer.url.scheme == "https" and url.scheme == "http":
            if url.host != answer.url.host:
                raise UpstreamProtocolError(
                    answer.where, f"it sends an upload from https to http ({url.host})"
                )
            url = url.copy_with(scheme="https", port=answer.url.port)
        return url


def is_forgotten(error: UpstreamError) -> bool:
    """Whether the registry does not know the upload session any more."""
    if isinstance(error, UpstreamNotFound) or error.code == "BLOB_UPLOAD_UNKNOWN":
        return True
    return error.status == 400 and error.code == "BLOB_UPLOAD_INVALID"
