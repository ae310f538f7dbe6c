"""A running bundled server over a store that a test fills; and helpers to fill it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from flows.demo.sample_images import ImageMaker
from registry_server.http.server_process import running_server
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.support.requests import RequestLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Registry:
    """A store and the server (a child process) that serves it."""

    store: Store
    url: str
    requests: RequestLog
    client: httpx.Client

    @property
    def host(self) -> str:
        """As it stands in an image name: `127.0.0.1:43121`."""
        return self.url.partition("//")[2]

    def maker(self, repository: str) -> ImageMaker:
        """Makes images in one of the repositories."""
        return ImageMaker(self.store.repository(RepositoryName(repository)))


@contextmanager
def running_registry(folder: Path, *, root: Path | None = None, **options: Any) -> Iterator[Registry]:
    """A registry on a free port of 127.0.0.1; its store and its access log are in `folder`.

    `root` is a store elsewhere, `options` are those of `ServerOptions`.
    """
    store = Store.open(root or folder / "store", subpaths=options.get("subpaths"), durability="none")
    log = RequestLog(folder / "access.log")
    with (
        running_server(store.root, access_log=log.path, **options) as url,
        httpx.Client(base_url=url, headers={"Accept-Encoding": "identity"}) as client,
    ):
        yield Registry(store, url, log, client)


def put_blob(store: Store, repository: str, content: bytes, algorithm: str = "sha256") -> Descriptor:
    """Content as a blob of `repository`."""
    digest = Digest.of(content, algorithm)
    descriptor = Descriptor("application/octet-stream", digest, len(content))
    store.repository(RepositoryName(repository)).put_blob(descriptor, content)
    return descriptor
