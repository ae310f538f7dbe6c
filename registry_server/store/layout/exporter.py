"""Images as an OCI image layout (image-spec image-layout.md), in a folder or a tar file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tarfile
from typing import TYPE_CHECKING, Any, Final, Protocol

from registry_server.oci import media_types
from registry_server.oci.errors import NotFound
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.errors import StoreDamaged, translated
from registry_server.store.filesystem import disk as files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import ImageName
    from registry_server.store.records import StoredBlob
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

REF_NAME: Final = "org.opencontainers.image.ref.name"
CONTAINERD_NAME: Final = "io.containerd.image.name"  # what `ctr images import` calls the image
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'


class _Target(Protocol):
    """Where a layout goes."""

    def index(self) -> list[dict[str, Any]]:
        """Descriptors that are there already."""
        ...

    def add(self, name: str, blob: StoredBlob) -> None:
        """Write the content under `name`, unless it is there."""
        ...

    def finish(self, index: list[dict[str, Any]]) -> None: ...

    def give_up(self) -> None: ...


@translated
def export_images(store: Store, images: Sequence[ImageName], target: Path) -> int:
    """Write the images to `target`: a tar file if it ends with `.tar`, else a folder. Returns their bytes.

    In a folder that is a layout already, they join what is there. Raises `NotFound`, `StoreError`.
    """
    layout: _Target = _TarTarget(target) if target.suffix == ".tar" else _FolderTarget(target)
    try:
        entries = {_key(entry): entry for entry in layout.index()}
        written: dict[Digest, int] = {}
        for image in images:
            repository = store.repository(image.repository)
            descriptor = repository.find_manifest(image.reference).descriptor
            for blob in _closure(repository, descriptor.digest):
                if blob.digest not in written:
                    layout.add(f"blobs/{blob.digest.algorithm}/{blob.digest.hex}", blob)
                    written[blob.digest] = blob.size
            body = {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
            entry = body | ({"annotations": _names(image)} if isinstance(image.reference, Tag) else {})
            entries[_key(entry)] = entry
        layout.finish(list(entries.values()))
    except BaseException:
        layout.give_up()
        raise
    return sum(written.values())


def _names(image: ImageName) -> dict[str, str]:
    return {REF_NAME: str(image), CONTAINERD_NAME: str(image)}


def _key(entry: dict[str, Any]) -> str:
    """A name stands for one image; what has no name is told apart by its digest."""
    return str((entry.get("annotations") or {}).get(REF_NAME) or entry["digest"])


def _closure(repository: Repository, digest: Digest) -> Iterator[StoredBlob]:
    """Blobs and manifests that are here; what an index names and is not, is a platform that was left out."""
    seen: set[Digest] = set()
    queue = [digest]
    while queue:
        current = queue.pop()
        if current in seen:
            continue
        seen.add(current)
        yield repository.find_blob(current)
        descriptor, body = repository.read_manifest(current)
        manifest = parse_manifest(body, descriptor.media_type)
        blobs = {blob.digest for blob in manifest.blobs}
        # Foreign layers are here where the profile has them fetched.
        foreign = (blob.digest for blob in manifest.layers if blob.is_foreign)
        blobs |= {digest for digest in foreign if repository.has_blob(digest)}
        for child in manifest.manifests:
            if repository.has_blob(child.digest):
                (queue.append if _is_manifest(repository, child.digest) else blobs.add)(child.digest)
        for blob in blobs - seen:
            seen.add(blob)
            yield repository.find_blob(blob)


def _is_manifest(repository: Repository, digest: Digest) -> bool:
    """What an index says of the types of its entries may be wrong."""
    try:
        repository.find_manifest(digest)
    except NotFound:
        return False
    return True


class _FolderTarget:
    def __init__(self, path: Path) -> None:
        self._path = path

    def index(self) -> list[dict[str, Any]]:
        found = files.read(str(self._path / "index.json"))
        if found is None:
            return []
        return [entry for entry in json.loads(found)["manifests"] if isinstance(entry, dict)]

    def add(self, name: str, blob: StoredBlob) -> None:
        path = self._path / name
        if files.file_size(str(path)) == blob.size:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Draft(path) as draft, draft.open("wb") as sink:
            for piece in _verified(blob):
                sink.write(piece)

    def finish(self, index: list[dict[str, Any]]) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        for name, content in (("oci-layout", _LAYOUT), ("index.json", _index(index))):
            with _Draft(self._path / name) as draft:
                draft.write_bytes(content)

    def give_up(self) -> None:
        """What was written is content that others may name: it does no harm."""


class _TarTarget:
    def __init__(self, path: Path) -> None:
        self._draft = _Draft(path)
        self._tar = tarfile.open(self._draft.__enter__(), "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by finish

    def index(self) -> list[dict[str, Any]]:
        self._member("oci-layout", io.BytesIO(_LAYOUT), len(_LAYOUT))
        return []

    def add(self, name: str, blob: StoredBlob) -> None:
        self._member(name, _Reader(_verified(blob)), blob.size)

    def finish(self, index: list[dict[str, Any]]) -> None:
        body = _index(index)
        self._member("index.json", io.BytesIO(body), len(body))
        self._tar.close()
        self._draft.__exit__(None, None, None)

    def give_up(self) -> None:
        self._tar.close()
        self._draft.remove()

    def _member(self, name: str, source: Any, size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o644  # and no time: the same images make the same file
        self._tar.addfile(member, source)


class _Draft:
    """A file under another name until it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")

    def __enter__(self) -> Path:
        return self._draft

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._draft.replace(self._path)
        else:
            self.remove()

    def remove(self) -> None:
        self._draft.unlink(missing_ok=True)


class _Reader(io.RawIOBase):
    """Pieces as a file, for `tarfile`."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken


def _verified(blob: StoredBlob) -> Iterator[bytes]:
    """The bytes of a blob; raises `StoreDamaged` before the last ones if they are not what was promised."""
    hasher, left = hashlib.new(blob.digest.algorithm), blob.size
    for piece in blob.pieces():
        hasher.update(piece)
        left -= len(piece)
        if left <= 0:
            _check(hasher.hexdigest(), blob)
        yield piece
    _check(hasher.hexdigest(), blob)


def _check(actual: str, blob: StoredBlob) -> None:
    if actual != blob.digest.hex:
        raise StoreDamaged(
            f"{blob.digest} is damaged in the store: `mirrorflow store scrub` fetches it again"
        )


def _index(entries: list[dict[str, Any]]) -> bytes:
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    body = json.dumps(document, indent=1).encode() + b"\n"
    assert len(body) <= MAX_MANIFEST_BYTES, "some ten thousand images; nobody reads such an index"
    return body
