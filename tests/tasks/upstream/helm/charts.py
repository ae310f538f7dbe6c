"""A Helm repository over real sockets: charts that are made here, and an index that says what it is told."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from tests.support_behaviours import answers

if TYPE_CHECKING:
    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

PROVENANCE = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nname: app\n-----END PGP SIGNATURE-----\n"


def archive(name: str = "app", version: str = "1.0.0", **more: Any) -> bytes:
    """What `helm package` makes: NAME/Chart.yaml and a template, gzipped."""
    metadata = {"apiVersion": "v2", "name": name, "version": version, "appVersion": "1.10", **more}
    files = {"Chart.yaml": yaml.safe_dump(metadata), "templates/a.yaml": f"kind: ConfigMap # {version}\n"}
    return packed({f"{name}/{path}": text.encode() for path, text in files.items()})


def packed(files: dict[str, bytes]) -> bytes:
    """A gzipped tar archive, the same bytes each time."""
    held = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=held, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as made,
    ):
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return held.getvalue()


@dataclass
class HelmServer:
    """`entries` are those of the index, by chart. Charts lie in the folder `/stable`, as the index does."""

    server: Misbehaving
    entries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    etag: str = ""

    @property
    def url(self) -> str:
        return f"helm+http://{self.server.host}/stable"

    def add(self, name: str = "app", version: str = "1.0.0", **more: Any) -> dict[str, Any]:
        """A chart, and its entry; `more` are further keys of the entry."""
        content = archive(name, version)
        path = f"charts/{name}-{version}.tgz"
        self.server.on(f"/stable/{path}", answers(200, content))
        self.server.on(f"/stable/{path}.prov", answers(404))
        digest = hashlib.sha256(content).hexdigest()
        entry = {"name": name, "version": version, "digest": digest, "urls": [path], **more}
        self.entries.setdefault(name, []).append(entry)
        self.publish()
        return entry

    def publish(self) -> None:
        """The index as `entries` say it now."""
        body = yaml.safe_dump({"apiVersion": "v1", "entries": self.entries}).encode()
        self.etag = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
        self.server.on("/stable/index.yaml", self.index(body))

    def index(self, body: bytes) -> Behaviour:
        etag = self.etag

        def behave(exchange: Exchange) -> None:
            if exchange.seen.headers.get("if-none-match") == etag:
                answers(304, ETag=etag)(exchange)
            else:
                answers(200, body, ETag=etag)(exchange)

        return behave

    def asked(self) -> list[str]:
        """Paths since the last call."""
        found = [each.path.removeprefix("/stable/") for each in self.server.seen]
        self.server.seen.clear()
        return found
