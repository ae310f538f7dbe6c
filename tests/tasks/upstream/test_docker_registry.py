"""Against Debian's docker-registry, filled by skopeo: plain, with client certificates, with users."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from tasks.upstream.errors import UpstreamDenied, UpstreamUntrusted
from tasks.upstream.login.credential_sources import StandardCredentials
from tasks.upstream.login.credentials import NoCredentials
from tasks.upstream.options import PlainUrl, UpstreamOptions
from tasks.upstream.registry import UpstreamRegistry
from tests.conftest import require_program
from tests.support.certificates import Authority
from tests.tasks.upstream.connection.cert_dirs import cert_dir
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.upstream.login.credentials import Credentials

NAME = "team/app"
TAGS = ["1.0", "1.1", "latest"]
CONTENT = random.Random(0).randbytes(7_500_000)  # noqa: S311 - only incompressible; the fast path
LAYER = gzip.compress(CONTENT, 1, mtime=0)  # skopeo compresses what is not
USERS = "alice:$2y$05$mMhts/zfi2tj7IQEUmgxHusAm9m7kQVW10./Dj.oFribVQSNTa3va"  # s3cret, by htpasswd -B


@dataclass(frozen=True, slots=True)
class Running:
    host: str
    digest: Digest


def _layout(folder: Path) -> Digest:
    """An OCI image layout with one image, called `app`; the digest of its manifest."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(CONTENT)]},
        }
    )
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": add(config.encode(), media_types.OCI_CONFIG),
        "layers": [add(LAYER, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    manifest = add(json.dumps(document).encode(), media_types.OCI_MANIFEST)
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "app"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return Digest(manifest["digest"])


@contextmanager
def docker_registry(folder: Path, skopeo_options: list[str], **http: Any) -> Iterator[Running]:
    program, skopeo = require_program("docker-registry"), require_program("skopeo")
    sections = {name: http.pop(name) for name in ("auth", "catalog") if name in http}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": host, **http},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(config | sections))
    digest = _layout(folder / "layout")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", folder / "config.yml"], stdout=log, stderr=log)
        try:
            _wait_for(host, process)
            for tag in TAGS:
                target = f"docker://{host}/{NAME}:{tag}"
                command = [skopeo, "--insecure-policy", "copy", "-q", *skopeo_options]
                subprocess.run([*command, f"oci:{folder / 'layout'}:app", target], check=True, timeout=60)
            yield Running(host, digest)
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(host: str, process: subprocess.Popen[bytes]) -> None:
    name, _, port = host.partition(":")
    for _attempt in range(200):
        assert process.poll() is None, "docker-registry ended"
        try:
            socket.create_connection((name, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("docker-registry does not listen")


def client(scheme: str, host: str, credentials: Credentials | None = None, **more: Any) -> UpstreamRegistry:
    entry = UpstreamOptions(urls=(PlainUrl(scheme, host),), **more)
    return UpstreamRegistry(entry, credentials or NoCredentials())


def everything(registry: UpstreamRegistry, running: Running) -> None:
    """Poll and copy as a run does."""
    assert list(registry.repositories()) == [NAME]
    assert sorted(registry.tags(NAME)) == TAGS
    for tag in TAGS:
        assert registry.head(NAME, tag).digest == running.digest
    at_once = registry.heads(NAME, TAGS[:1])  # on the connection that is there
    assert {tag: head.digest for tag, head in at_once.found.items()} == {TAGS[0]: running.digest}
    fetched = registry.manifest(NAME, running.digest)
    manifest = parse_manifest(fetched.body, fetched.media_type)
    for blob in manifest.blobs:
        sink = MemorySink()
        assert registry.blob(NAME, blob, sink) == blob.size
        assert Digest.of(bytes(sink.content)) == blob.digest
    (layer,) = manifest.layers
    rest = MemorySink(LAYER[:1_000_000])
    assert registry.blob(NAME, layer, rest) == len(LAYER) - 1_000_000
    assert rest.content == LAYER
    assert rest.restarts == 0


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with docker_registry(tmp_path_factory.mktemp("plain"), ["--dest-tls-verify=false"]) as running:
        yield running


def test_a_plain_registry_is_mirrored(plain: Running) -> None:
    with client("http", plain.host) as registry:
        everything(registry, plain)
        counted = registry.requests()
    assert counted.pop("bytes") > len(LAYER)
    assert counted == {"GET catalog": 2, "GET tags": 1, "HEAD manifest": 4, "GET manifest": 1, "GET blob": 3}


def test_a_catalog_below_our_page_size_is_listed_whole(tmp_path: Path) -> None:
    """`catalog.maxentries`: distribution refuses to be asked for more at a time (CVE-2023-2253)."""
    with docker_registry(tmp_path, ["--dest-tls-verify=false"], catalog={"maxentries": 2}) as running:
        layout = f"oci:{tmp_path / 'layout'}:app"
        names = [NAME, *(f"team/app{number}" for number in range(4))]
        for name in names[1:]:
            target = f"docker://{running.host}/{name}:1"
            command = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
            subprocess.run([*command, layout, target], check=True, timeout=60)
        with client("http", running.host) as registry:
            assert list(registry.repositories()) == names
            assert registry.requests() == {"GET catalog": 4}


def test_a_registry_over_tls_with_a_client_certificate_is_mirrored(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    authority = Authority(tmp_path / "ca")
    server, user = authority.server(), authority.client()
    folder = cert_dir(tmp_path / "certs", authority.cert, user)
    tls = {
        "certificate": str(server.cert),
        "key": str(server.key),
        "clientcas": [str(authority.cert)],
    }
    with docker_registry(tmp_path / "registry", [f"--dest-cert-dir={folder}"], tls=tls) as running:
        with client("https", running.host, cert_dir=folder) as registry:
            everything(registry, running)
        only_ca = cert_dir(tmp_path / "only-ca", authority.cert)
        with (
            client("https", running.host, cert_dir=only_ca) as registry,
            pytest.raises(UpstreamUntrusted, match="client certificate"),
        ):
            registry.tags(NAME)
        with client("https", running.host) as registry, pytest.raises(UpstreamUntrusted, match="certDir"):
            registry.tags(NAME)


def test_a_registry_with_users_is_mirrored(tmp_path: Path) -> None:
    (tmp_path / "users").write_text(f"{USERS}\n")
    auth = {"htpasswd": {"realm": "here", "path": str(tmp_path / "users")}}
    options = ["--dest-tls-verify=false", "--dest-creds=alice:s3cret"]
    with docker_registry(tmp_path / "registry", options, auth=auth) as running:
        users = {running.host: {"username": "alice", "password": "s3cret"}}
        (tmp_path / "credentials.json").write_text(json.dumps(users))
        credentials = StandardCredentials(tmp_path / "credentials.json", {})
        with client("http", running.host, credentials) as registry:
            everything(registry, running)
        with client("http", running.host) as registry, pytest.raises(UpstreamDenied, match="credentialsFile"):
            registry.tags(NAME)
