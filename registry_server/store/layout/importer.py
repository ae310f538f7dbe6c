"""Taking in an OCI image layout (image-spec image-layout.md): every byte is verified, no link is followed."""

from __future__ import annotations

import os
import stat
import tarfile
import time
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from registry_server.oci import media_types
from registry_server.oci.errors import ContentError, InvalidName
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store.errors import translated
from registry_server.store.layout.exporter import CONTAINERD_NAME, REF_NAME
from registry_server.store.records import TagRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

_PIECE: Final = 256 * 1024
_DEPTH: Final = 16


class LayoutInvalid(ContentError):
    """Not an OCI image layout, or one that lacks something."""


class _Source(Protocol):
    """A layout: files by name."""

    def open(self, name: str) -> IO[bytes] | None:
        """None when there is no regular file of that name."""
        ...


@translated
def import_images(store: Store, source: Path, repository: RepositoryName | None = None) -> list[ImageName]:
    """Take in all images of a layout (a folder or a tar file), by the names that it gives them.

    With `repository` all go there, under the tags of their names. Raises `LayoutInvalid`, `ContentError` for
    bytes that are not what their digest promises, `StoreError`.
    """
    with store.lease(), _opened(source) as layout:
        index = parse_manifest(_read(layout, "index.json", source), media_types.OCI_INDEX)
        named = [(_name(entry, repository), entry) for entry in index.manifests]
        if not named:
            raise LayoutInvalid(f"{source} holds no image: its index.json lists no manifests")
        for name, entry in named:
            _Import(layout, store.repository(name.repository), source).image(name, entry)
        return [name for name, _ in named]


def _name(entry: Descriptor, repository: RepositoryName | None) -> ImageName:
    text = entry.annotations.get(CONTAINERD_NAME) or entry.annotations.get(REF_NAME) or ""
    if repository is not None:
        tag = text.rpartition("/")[2].rpartition(":")[2]
        return ImageName(repository, Tag(tag) if tag else entry.digest)
    try:
        return ImageName.parse(text)
    except InvalidName as error:
        shown = f"calls an image {text!r}" if text else f"does not name the image {entry.digest}"
        raise LayoutInvalid(f"the layout {shown}: give the target repository with --repository") from error


class _Import:
    """One image on its way in."""

    def __init__(self, layout: _Source, repository: Repository, source: Path) -> None:
        self._layout, self._repository, self._source = layout, repository, source
        self._sparse: list[Digest] = []

    def image(self, name: ImageName, entry: Descriptor) -> None:
        self._manifest(entry, 0)
        if isinstance(name.reference, Tag):
            record = TagRecord(
                entry.digest, self._media_type(entry), entry.size, time.time(), sparse=tuple(self._sparse)
            )
            self._repository.put_tag(name.reference, record)

    def _media_type(self, entry: Descriptor) -> str:
        return self._repository.find_manifest(entry.digest).descriptor.media_type

    def _manifest(self, descriptor: Descriptor, depth: int) -> None:
        if depth > _DEPTH:
            raise LayoutInvalid(f"{self._source}: indexes within indexes, deeper than {_DEPTH}")
        body = _read(self._layout, _path(descriptor.digest), self._source)
        manifest = parse_manifest(body, descriptor.media_type)
        self._children(manifest, depth)
        for blob in manifest.blobs:
            self._blob(blob)
        for blob in manifest.layers:
            if blob.is_foreign and (held := self._layout.open(_path(blob.digest))):
                held.close()
                self._blob(blob)
        self._repository.put_manifest(manifest, descriptor.digest)

    def _children(self, manifest: Manifest, depth: int) -> None:
        for child in manifest.manifests:
            found = self._layout.open(_path(child.digest))
            if found is None:
                self._sparse.append(child.digest)  # image-index.md: platforms may be absent
                continue
            found.close()
            if child.media_type in media_types.MANIFESTS:
                self._manifest(child, depth + 1)
            elif not child.is_foreign:
                self._blob(child)

    def _blob(self, descriptor: Descriptor) -> None:
        if self._repository.adopt_blob(descriptor.digest):
            return
        source = self._layout.open(_path(descriptor.digest))
        if source is None:
            raise LayoutInvalid(
                f"{self._source} lacks {_path(descriptor.digest)}, which one of its images needs"
            )
        with source, self._repository.receive_blob(descriptor) as incoming:
            source.seek(incoming.offset)
            while not incoming.complete and (piece := source.read(_PIECE)):
                incoming.write(piece)
            incoming.commit()


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _read(layout: _Source, name: str, source: Path) -> bytes:
    found = layout.open(name)
    if found is None:
        raise LayoutInvalid(f"{source} is no OCI image layout, or an incomplete one: it has no {name}")
    with found:
        return found.read(MAX_MANIFEST_BYTES + 1)


@contextmanager
def _opened(source: Path) -> Iterator[_Source]:
    if source.is_dir():
        yield _FolderSource(source)
        return
    with ExitStack() as open_files:
        try:
            tar = open_files.enter_context(tarfile.open(source))
        except tarfile.TarError as error:
            raise LayoutInvalid(f"{source} is neither a folder nor a tar file: {error}") from error
        yield _TarSource(tar)


class _FolderSource:
    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, name: str) -> IO[bytes] | None:
        try:
            fd = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return os.fdopen(fd, "rb")


class _TarSource:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        # Only regular files count: a link in a tar file is a way to name what is not in it.
        self._members: dict[str, Any] = {
            member.name.removeprefix("./"): member for member in tar if member.isreg()
        }

    def open(self, name: str) -> IO[bytes] | None:
        member = self._members.get(name)
        return None if member is None else self._tar.extractfile(member)
